"""Which relay publishes which messages of the outbox."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased
from koan_django.messaging.querysets import OutboxLaneQuerySet


class OutboxLane(Leased):
    """One lane of a bus's outbox, held by the relay that publishes its messages."""

    bus = models.CharField(_("bus"), max_length=64)
    number = models.PositiveSmallIntegerField(_("number"))

    objects = OutboxLaneQuerySet.as_manager()

    class Meta:
        verbose_name = _("outbox lane")
        verbose_name_plural = _("outbox lanes")
        ordering = ("bus", "number")
        constraints = (models.UniqueConstraint(fields=["bus", "number"], name="koan_msg_outboxlane_unique"),)

    def __str__(self) -> str:
        return f"{self.bus}.{self.number}"


class OutboxRelay(models.Model):
    """A relay that takes its share of a bus's lanes, until it stops saying so."""

    bus = models.CharField(_("bus"), max_length=64)
    worker = models.CharField(_("relay"), max_length=120)
    until = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("outbox relay")
        verbose_name_plural = _("outbox relays")
        ordering = ("bus", "worker")
        constraints = (models.UniqueConstraint(fields=["bus", "worker"], name="koan_msg_outboxrelay_unique"),)

    def __str__(self) -> str:
        return f"{self.worker} of {self.bus}"
