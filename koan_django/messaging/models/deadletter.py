"""Messages that could not be handled."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.messaging.querysets import DeadLetterQuerySet

from .stored import StoredEnvelope


class DeadLetter(StoredEnvelope):
    """A message with the reason why its group gave up on it. Replaying sends it to that group again."""

    class State(models.TextChoices):
        DEAD = "dead", _("dead")
        REPLAYED = "replayed", _("replayed")
        DISCARDED = "discarded", _("discarded")

    class Reason(models.TextChoices):
        UNREADABLE = "unreadable", _("the body cannot be read")
        UNHANDLED = "unhandled", _("no handler in the group")
        PERMANENT = "permanent", _("the handler refused it for good")
        EXHAUSTED = "exhausted", _("every attempt failed")
        UNROUTABLE = "unroutable", _("no group receives it any more")
        BROKER = "broker", _("the broker gave up on it")

    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.DEAD)
    reason = models.CharField(_("reason"), max_length=10, choices=Reason.choices)
    handler = models.CharField(_("handler"), max_length=255, blank=True)
    error_type = models.CharField(_("error type"), max_length=255, blank=True)
    error = models.TextField(_("error"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    fingerprint = models.CharField(_("fingerprint"), max_length=32)
    correlation_id = models.CharField(_("correlation id"), max_length=128)
    tenant = models.CharField(_("tenant"), max_length=64, blank=True)
    dead_at = models.DateTimeField(_("dead at"), auto_now_add=True, db_index=True)
    replayed_at = models.DateTimeField(_("replayed at"), null=True, blank=True)
    replays = models.PositiveIntegerField(_("replays"), default=0)

    objects = DeadLetterQuerySet.as_manager()

    class Meta(StoredEnvelope.Meta):
        abstract = False
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ("-id",)
        permissions = (
            ("replay_deadletter", _("Can replay a dead letter")),
            ("discard_deadletter", _("Can discard a dead letter")),
        )
        indexes = (
            models.Index(fields=["message_id"], name="koan_msg_dead_message"),
            models.Index(fields=["fingerprint"], name="koan_msg_dead_fingerprint"),
            models.Index(fields=["correlation_id"], name="koan_msg_dead_correlation"),
        )
