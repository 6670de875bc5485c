"""Who works on which partition of an ordered group."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased
from koan_django.messaging.ordering.shares import BUS_LENGTH
from koan_django.messaging.querysets import PartitionQuerySet


class Partition(Leased):
    """One partition of an ordered group, held by the worker that handles its messages.

    While a message is tried again, or its partition has stopped for it, the row says which one and why.
    """

    class State(models.TextChoices):
        OPEN = "open", _("open")
        BLOCKED = "blocked", _("blocked")
        STOPPED = "stopped", _("stopped")

    bus = models.CharField(_("bus"), max_length=BUS_LENGTH)
    group = models.CharField(_("group"), max_length=64)
    number = models.PositiveSmallIntegerField(_("number"))
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.OPEN)
    message_id = models.CharField(_("message id"), max_length=128, blank=True)
    alias = models.CharField(_("alias"), max_length=200, blank=True)
    handler = models.CharField(_("handler"), max_length=255, blank=True)
    attempt = models.PositiveIntegerField(_("next attempt"), default=1)
    error = models.CharField(_("error"), max_length=500, blank=True)
    since = models.DateTimeField(_("since"), null=True, blank=True)
    #: The message is to be a dead letter when its partition is worked on again.
    skip = models.BooleanField(_("skip"), default=False)

    objects = PartitionQuerySet.as_manager()

    class Meta:
        verbose_name = _("partition")
        verbose_name_plural = _("partitions")
        ordering = ("bus", "group", "number")
        permissions = (("release_partition", _("Can let a stopped partition go on")),)
        constraints = (models.UniqueConstraint(fields=["bus", "group", "number"], name="koan_msg_partition_unique"),)

    def __str__(self) -> str:
        return f"{self.group}.p{self.number}"


class PartitionWorker(models.Model):
    """A worker that takes its share of a group's partitions, until it stops saying so."""

    bus = models.CharField(_("bus"), max_length=BUS_LENGTH)
    group = models.CharField(_("group"), max_length=64)
    worker = models.CharField(_("worker"), max_length=120)
    until = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("partition worker")
        verbose_name_plural = _("partition workers")
        ordering = ("bus", "group", "worker")
        constraints = (models.UniqueConstraint(fields=["bus", "group", "worker"], name="koan_msg_partworker_unique"),)

    def __str__(self) -> str:
        return f"{self.worker} in {self.group}"
