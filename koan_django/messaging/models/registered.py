"""The handlers that workers have: what they did, and whether somebody has paused them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now  # noqa: TID251  # a db_default is DDL
from django.utils.translation import gettext_lazy as _

from koan_django.core.policy import holds_policy
from koan_django.messaging.control.registering import RegisteredHandlerQuerySet


@holds_policy
class RegisteredHandler(models.Model):
    """One handler. Workers write what the code declares and count; people decide whether it is paused."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    bus = models.CharField(_("bus"), max_length=64)
    group = models.CharField(_("group"), max_length=64)
    binding = models.CharField(_("receives"), max_length=255)
    origin = models.CharField(_("function"), max_length=255)
    first_seen = models.DateTimeField(_("first seen"), db_default=Now())
    last_seen = models.DateTimeField(_("last seen"), db_default=Now())

    paused = models.BooleanField(_("paused"), default=False)
    pause_reason = models.CharField(_("why it is paused"), max_length=500, blank=True)
    paused_by = models.CharField(_("paused by"), max_length=200, blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True, blank=True)

    handled = models.BigIntegerField(_("handled"), default=0)
    retried = models.BigIntegerField(_("retried"), default=0)
    dead = models.BigIntegerField(_("dead"), default=0)
    duplicates = models.BigIntegerField(_("duplicates"), default=0)
    total_ms = models.FloatField(_("time in all (ms)"), default=0.0)
    worst_ms = models.FloatField(_("longest (ms)"), default=0.0)
    last_handled_at = models.DateTimeField(_("last handled"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    last_error_at = models.DateTimeField(_("last failed"), null=True, blank=True)

    objects = RegisteredHandlerQuerySet.as_manager()

    class Meta:
        verbose_name = _("handler")
        verbose_name_plural = _("handlers")
        ordering = ("bus", "group", "name")
        permissions = (("pause_registeredhandler", _("Can pause and resume a handler")),)

    def __str__(self) -> str:
        return self.name

    @property
    def mean_ms(self) -> float | None:
        """What a message took on average, of those that were handled."""
        return self.total_ms / self.handled if self.handled else None
