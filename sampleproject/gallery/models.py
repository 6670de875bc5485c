"""Uploads as they arrive, photographs as they are shown."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.media import MediaAsset
from koan_django.media.managers import MediaAssetManager
from koan_django.storage import StoredFile
from koan_django.storage.managers import StoredFileManager


class Upload(StoredFile):
    """A file that somebody sent. Its bytes are kept until a photograph was made of it, or it was refused."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        PUBLISHED = "published", _("published")
        REFUSED = "refused", _("refused")

    name = models.CharField(_("name"), max_length=255)
    received = models.BigIntegerField(_("received"), default=0, help_text=_("In bytes."))
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.WAITING, db_index=True)
    stage = models.CharField(_("refused at"), max_length=16, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.SET_NULL, null=True, blank=True
    )
    message_id = models.CharField(_("message id"), max_length=128, blank=True, db_index=True)
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True, db_index=True)
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)

    objects: ClassVar[StoredFileManager[Self]] = StoredFileManager()

    class Storage:
        profile = "hot"
        container = "incoming"

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.name


class Photo(MediaAsset):
    """A photograph, and as further rows of the same table what was rendered of it."""

    upload = models.OneToOneField(
        Upload, verbose_name=_("upload"), on_delete=models.SET_NULL, null=True, blank=True, related_name="photo"
    )
    facts = models.JSONField(_("what the file said"), default=dict, blank=True)
    published_at = models.DateTimeField(_("published at"), null=True, blank=True, db_index=True)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True)
    archive_run = models.UUIDField(_("archived by run"), null=True, blank=True)

    objects: ClassVar[MediaAssetManager[Self]] = MediaAssetManager()

    class Storage:
        profile = "hot"
        container = "photos"

    class Meta(MediaAsset.Meta):
        abstract = False
        verbose_name = _("photo")
        verbose_name_plural = _("photos")
        ordering = ("-id",)

    def inherited(self) -> dict[str, Any]:
        """A rendition is not published or archived by itself."""
        return {}


class Tally(models.Model):
    """A count that goes up once for each photograph: it would show a message that was handled twice."""

    name = models.CharField(_("name"), max_length=32, unique=True)
    count = models.PositiveIntegerField(_("count"), default=0)

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")

    def __str__(self) -> str:
        return f"{self.name}: {self.count}"
