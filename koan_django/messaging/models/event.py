"""What happened to each message."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class MessageEvent(models.Model):
    """One step in the life of a message. Rows are added and never changed: outbox and delivery rows are deleted."""

    class Kind(models.TextChoices):
        SENT = "sent", _("sent")
        PUBLISHED = "published", _("published")
        HANDLED = "handled", _("handled")
        STOPPED = "stopped", _("stopped")
        DUPLICATE = "duplicate", _("duplicate suppressed")
        RETRIED = "retried", _("retried")
        POSTPONED = "postponed", _("postponed")
        DEAD = "dead", _("dead-lettered")
        REPLAYED = "replayed", _("replayed")
        PARKED = "parked", _("parked")
        CANCELLED = "cancelled", _("cancelled")

    at = models.DateTimeField(_("at"), auto_now_add=True, db_index=True)
    kind = models.CharField(_("kind"), max_length=9, choices=Kind.choices)
    message_id = models.CharField(_("message id"), max_length=128)
    alias = models.CharField(_("alias"), max_length=200)
    bus = models.CharField(_("bus"), max_length=64)
    group = models.CharField(_("group"), max_length=64, blank=True)
    handler = models.CharField(_("handler"), max_length=255, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    duration_ms = models.FloatField(_("duration in ms"), null=True, blank=True)
    process = models.CharField(_("process"), max_length=120, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=128)
    causation_id = models.CharField(_("caused by"), max_length=128, blank=True)
    tenant = models.CharField(_("tenant"), max_length=64, blank=True)
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    objects: ClassVar[models.Manager[MessageEvent]] = models.Manager()

    class Meta:
        verbose_name = _("message event")
        verbose_name_plural = _("message events")
        ordering = ("-id",)
        # A text that is indexed by its field has two of them on PostgreSQL, and a message has several events.
        indexes = (
            models.Index(fields=["message_id"], name="koan_msg_event_message"),
            models.Index(fields=["correlation_id"], name="koan_msg_event_correlation"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.alias} {self.message_id}"
