"""The table of the database store."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now  # noqa: TID251  # a db_default is DDL
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased

from .querysets import InboxQuerySet


class InboxEntry(Leased):
    """One piece of work that was done, or is being done under a lease."""

    class State(models.TextChoices):
        PROCESSING = "processing", _("processing")
        PROCESSED = "processed", _("processed")

    fingerprint = models.CharField(_("fingerprint"), max_length=64, editable=False)
    tenant = models.CharField(_("tenant"), max_length=64, blank=True)
    bus = models.CharField(_("bus"), max_length=64, blank=True)
    group = models.CharField(_("group"), max_length=64, blank=True)
    handler = models.CharField(_("handler or source"), max_length=255)
    alias = models.CharField(_("alias"), max_length=200, blank=True)
    key = models.CharField(_("key"), max_length=255)
    state = models.CharField(
        _("state"), max_length=10, choices=State.choices, default=State.PROCESSED, db_default=State.PROCESSED
    )
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True)
    #: Tells those that were claimed together, and not before, from the others.
    claim = models.CharField(max_length=32, blank=True, default="", db_default="", editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=1, db_default=1)
    duplicates = models.PositiveIntegerField(_("duplicates suppressed"), default=0, db_default=0)
    first_seen_at = models.DateTimeField(_("first seen at"), db_default=Now(), editable=False)
    processed_at = models.DateTimeField(_("processed at"), null=True, blank=True, db_index=True)

    objects = InboxQuerySet.as_manager()

    class Meta:
        verbose_name = _("inbox entry")
        verbose_name_plural = _("inbox entries")
        ordering = ("-id",)
        # Each is written with every message, and a text that is indexed by its field has two of them on PostgreSQL.
        constraints = (models.UniqueConstraint(fields=["fingerprint"], name="koan_inbox_fingerprint"),)
        indexes = (models.Index(fields=["correlation_id"], name="koan_inbox_correlation"),)
        permissions = (
            ("release_inboxentry", _("Can release an inbox entry")),
            ("forget_inboxentry", _("Can forget an inbox entry")),
        )

    def __str__(self) -> str:
        return f"{self.handler} {self.key}"
