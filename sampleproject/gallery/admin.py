"""The gallery in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from koan_django.core.admin.kit import RecordAdmin, Styled, badge, pretty_json

from .models import Photo, Tally, Upload

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(Upload)
class UploadAdmin(Styled, RecordAdmin[Upload]):
    list_display = ("name", "shown_state", "stage", "reason", "user", "created_at", "settled_at")
    list_filter = ("state", "stage")
    search_fields = ("name", "message_id", "correlation_id")
    fields = ("name", "shown_state", "stage", "reason", "user", "message_id", "trail", "created_at")
    readonly_fields = ("shown_state", "trail")

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, upload: Upload) -> SafeString:
        colour = {"published": "healthy", "refused": "unhealthy"}.get(upload.state, "pending")
        return badge(colour, upload.get_state_display())


@admin.register(Photo)
class PhotoAdmin(Styled, RecordAdmin[Photo]):
    list_display = ("original_name", "relationship", "width", "height", "size", "profile", "published_at", "story")
    list_filter = ("profile", "relationship", "format")
    search_fields = ("original_name", "sha256")
    list_select_related = ("source", "upload")
    fields = (
        "original_name",
        ("relationship", "source"),
        ("width", "height", "format", "size"),
        ("profile", "sha256"),
        ("published_at", "archived_at", "archive_run"),
        "story",
        "shown_facts",
    )
    readonly_fields = ("story", "shown_facts")

    @admin.display(description=_("its page"))
    def story(self, photo: Photo) -> SafeString | str:
        upload = photo.upload
        if upload is None:
            return ""
        return format_html('<a href="{}">{}</a>', reverse("gallery:photo", args=[upload.public_id]), _("open"))

    @admin.display(description=_("what the file said"))
    def shown_facts(self, photo: Photo) -> SafeString:
        return pretty_json(photo.facts)


@admin.register(Tally)
class TallyAdmin(RecordAdmin[Tally]):
    list_display = ("name", "count")
    fields = list_display
