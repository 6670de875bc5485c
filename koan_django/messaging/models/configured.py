"""No table: the page of buses in the admin hangs on it, with a permission of its own."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ConfiguredBus(models.Model):
    """A bus of the settings."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("bus")
        verbose_name_plural = _("buses")
