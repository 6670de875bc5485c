"""A base for the admin of models that are pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import Styled
from koan_django.media.assets import MediaAsset
from koan_django.media.labels import label_of
from koan_django.storage.admin.files import StoredFileAdmin

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

M = TypeVar("M", bound=MediaAsset)


class MediaAssetAdmin(Styled, StoredFileAdmin[M]):
    """Shows a picture with what it was made from, what was made of it, and how that went.

    The preview is the smallest variant, served by the delivery view where the project includes it.
    """

    list_display = (  # type: ignore[assignment]  # longer than below
        "shown_preview",
        "__str__",
        "shown_pixels",
        "format",
        "relationship",
        "profile",
        "created_at",
    )
    list_display_links = ("__str__",)
    list_filter = ("relationship", "format", "profile")  # type: ignore[assignment]  # the base has a shorter tuple
    readonly_fields = (  # type: ignore[assignment]  # as above
        "shown_preview",
        *StoredFileAdmin.readonly_fields,
        "shown_pixels",
        "format",
        "relationship",
        "shown_source",
        "shown_variants",
        "shown_derivations",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        return super().get_queryset(request).select_related("source").prefetch_related("derivatives")

    @admin.display(description=_("preview"))
    def shown_preview(self, asset: M) -> SafeString | str:
        if asset.pk is None:
            return "-"
        smallest = min([*asset.variants.values(), asset], key=lambda row: row.size)
        try:
            return format_html('<img src="{}" alt="" class="koan-preview" height="48">', smallest.address)
        except NoReverseMatch:
            return "-"

    @admin.display(description=_("pixels"), ordering="width")
    def shown_pixels(self, asset: M) -> str:
        return f"{asset.width} x {asset.height}" if asset.width else "-"

    @admin.display(description=_("made from"))
    def shown_source(self, asset: M) -> SafeString | str:
        return self._link(asset.source, str(asset.source)) if asset.source else "-"

    @admin.display(description=_("made of it"))
    def shown_variants(self, asset: M) -> SafeString | str:
        if asset.pk is None:
            return "-"
        links = ((self._link(row, f"{name} ({row.width} x {row.height})"),) for name, row in asset.variants.items())
        return format_html_join(", ", "{}", links) or "-"

    @admin.display(description=_("derivations"))
    def shown_derivations(self, asset: M) -> SafeString | str:
        if asset.pk is None:
            return "-"
        url = reverse("admin:koan_media_derivation_changelist")
        states = asset.derivations().order_by("recipe").values_list("recipe", "state")
        text = ", ".join(f"{recipe}: {state}" for recipe, state in states) or "-"
        query = urlencode({"asset": label_of(asset), "source_pk": asset.pk})
        return format_html('<a href="{}?{}">{}</a>', url, query, text)

    def _link(self, asset: MediaAsset, text: str) -> SafeString:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(name, args=[asset.pk]), text)
