"""Messages that wait to be published to a broker."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now  # noqa: TID251  # a db_default is DDL
from django.utils.translation import gettext_lazy as _

from koan_django.messaging.querysets import OutboxQuerySet

from .stored import StoredEnvelope


class OutboxMessage(StoredEnvelope):
    """Written in the sender's transaction, published by the relay, then deleted.

    A message that can never travel, or that reaches nobody for minutes, is parked with its reason. One that is handed
    over is being published by the process that wrote it; if that does not end, relays take it.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        HANDED = "handed", _("handed over")
        PARKED = "parked", _("parked")

    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.PENDING)
    lane = models.PositiveSmallIntegerField(_("lane"), default=0)
    available_at = models.DateTimeField(_("not before"), db_default=Now())
    tries = models.PositiveIntegerField(_("publish attempts"), default=0)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    objects = OutboxQuerySet.as_manager()

    class Meta(StoredEnvelope.Meta):
        abstract = False
        verbose_name = _("outbox message")
        verbose_name_plural = _("outbox messages")
        ordering = ("id",)
        permissions = (("publish_outboxmessage", _("Can publish or discard an outbox message")),)
        indexes = (
            models.Index(fields=["message_id"], name="koan_msg_outbox_message"),
            # A relay reads in the order of writing. While the statistics know of an empty table, as they do when a
            # backlog begins, the planner would sort all of it for each batch if no index had that order.
            models.Index(
                fields=["bus", "id", "available_at"], condition=models.Q(state="pending"), name="koan_msg_outbox_next"
            ),
            models.Index(
                fields=["bus", "lane", "id"],
                condition=models.Q(state="pending", tries__gt=0),
                name="koan_msg_outbox_again",
            ),
            models.Index(
                fields=["bus", "created_at"], condition=models.Q(state="handed"), name="koan_msg_outbox_handed"
            ),
            models.Index(fields=["bus", "id"], condition=models.Q(state="parked"), name="koan_msg_outbox_parked"),
            models.Index(fields=["lane"], name="koan_msg_outbox_lane"),
        )
