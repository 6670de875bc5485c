"""What koan-django has made on brokers: nothing else is ever removed there."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from koan_django.messaging.querysets import TopologyObjectQuerySet


class TopologyObject(models.Model):
    """An exchange, a queue or a binding that a worker or a command made. ``broker`` is the name of the cluster."""

    class Kind(models.TextChoices):
        EXCHANGE = "exchange", _("exchange")
        QUEUE = "queue", _("queue")
        BINDING = "binding", _("binding")

    bus = models.CharField(_("bus"), max_length=64)
    broker = models.CharField(_("broker"), max_length=255)
    vhost = models.CharField(_("virtual host"), max_length=255)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=255, db_index=True)
    source = models.CharField(_("source"), max_length=255, blank=True)
    routing_key = models.CharField(_("routing key"), max_length=255, blank=True)
    destination_type = models.CharField(_("leads to"), max_length=8, blank=True)
    arguments = models.JSONField(_("arguments"), default=dict, blank=True)
    #: Of all columns that tell it from others: an index over them would be too wide for some databases.
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.CharField(_("created by"), max_length=120)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    wanted_at = models.DateTimeField(_("last seen wanted"), auto_now_add=True)

    objects = TopologyObjectQuerySet.as_manager()

    class Meta:
        verbose_name = _("topology object")
        verbose_name_plural = _("topology objects")
        ordering = ("bus", "kind", "name", "id")

    def __str__(self) -> str:
        name = f"{self.source} → {self.name} [{self.routing_key}]" if self.kind == self.Kind.BINDING else self.name
        return f"{self.kind} {name}"


class Topology(models.Model):
    """No table: the Topology page in the admin hangs on it, with permissions of its own."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("topology")
        verbose_name_plural = _("topology")
        permissions = (("apply_topology", _("Can apply what is missing in a topology")),)
