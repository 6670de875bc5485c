"""A base for the admin of models that are stored files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import KoanAdmin
from koan_django.storage.exceptions import StorageError
from koan_django.storage.storedfile import StoredFile

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

M = TypeVar("M", bound=StoredFile)


class StoredFileAdmin(KoanAdmin[M]):
    """Shows what storage knows of each object, and its address where the profile has one."""

    list_display = ("__str__", "shown_size", "content_type", "profile", "created_at")
    list_filter = ("profile", "content_type")
    search_fields = ("original_name", "file", "sha256", "public_id")
    readonly_fields = (
        "shown_link",
        "original_name",
        "content_type",
        "shown_size",
        "sha256",
        "profile",
        "key",
        "public_id",
        "created_at",
    )

    @admin.display(description=_("size"), ordering="size")
    def shown_size(self, row: M) -> str:
        return filesizeformat(row.size)

    @admin.display(description=_("address"))
    def shown_link(self, row: M) -> SafeString | str:
        try:
            return format_html('<a href="{0}">{0}</a>', row.file.url) if row.key else "-"
        except StorageError as error:
            return str(error)
