"""The queue of the database bus: one row per message and group."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now  # noqa: TID251  # a db_default is DDL
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased
from koan_django.messaging.querysets import DeliveryQuerySet

from .stored import StoredEnvelope


class QueuedDelivery(StoredEnvelope, Leased):
    """A message that waits for its group or is being handled; deleted in the handler's transaction."""

    #: Of the message's key; without one, nothing.
    partition = models.PositiveSmallIntegerField(_("partition"), null=True, blank=True)
    available_at = models.DateTimeField(_("not before"), db_default=Now())
    #: Takes in a row that ended with no verdict: each worker was gone, or had lost its lease.
    deliveries = models.PositiveIntegerField(_("deliveries without an answer"), default=0, db_default=0)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())

    objects = DeliveryQuerySet.as_manager()

    class Meta(StoredEnvelope.Meta):
        abstract = False
        verbose_name = _("queued delivery")
        verbose_name_plural = _("queued deliveries")
        ordering = ("id",)
        # In the order of claiming: with a long backlog a claim reads no further than it takes.
        indexes = (
            models.Index(fields=["message_id"], name="koan_msg_delivery_message"),
            models.Index(fields=["bus", "group", "-priority", "id"], name="koan_msg_delivery_turn"),
            models.Index(fields=["bus", "group", "partition", "id"], name="koan_msg_delivery_part"),
        )
