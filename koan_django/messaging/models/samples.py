"""What happened in each minute: the numbers behind the charts of the Traffic page."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class HandlerSample(models.Model):
    """What one worker did with one handler in one minute. Rows are added and never changed."""

    minute = models.DateTimeField(_("minute"), db_index=True)
    bus = models.CharField(_("bus"), max_length=64)
    group = models.CharField(_("group"), max_length=64)
    handler = models.CharField(_("handler"), max_length=255)
    handled = models.PositiveIntegerField(_("handled"), default=0)
    retried = models.PositiveIntegerField(_("retried"), default=0)
    dead = models.PositiveIntegerField(_("dead"), default=0)
    duplicates = models.PositiveIntegerField(_("duplicates"), default=0)
    #: How many messages took how long from being sent, or due, to being handled: a count for each bucket.
    latencies = models.JSONField(_("latencies"), default=list)

    objects: ClassVar[models.Manager[HandlerSample]] = models.Manager()

    class Meta:
        verbose_name = _("handler sample")
        verbose_name_plural = _("handler samples")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.handler} {self.minute:%H:%M}"


class DepthSample(models.Model):
    """How much waited for one group at one time."""

    at = models.DateTimeField(_("at"), db_index=True)
    bus = models.CharField(_("bus"), max_length=64)
    group = models.CharField(_("group"), max_length=64)
    waiting = models.PositiveIntegerField(_("waiting"), null=True, blank=True)
    in_progress = models.PositiveIntegerField(_("in progress"), null=True, blank=True)

    objects: ClassVar[models.Manager[DepthSample]] = models.Manager()

    class Meta:
        verbose_name = _("depth sample")
        verbose_name_plural = _("depth samples")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.group} {self.at:%H:%M:%S}"


class Traffic(models.Model):
    """No table: the page of charts in the admin hangs on it, with a permission of its own."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("traffic")
        verbose_name_plural = _("traffic")
