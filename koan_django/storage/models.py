"""Storage's tables: what the admin says about each profile, and the objects that wait to be removed."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from koan_django.core.policy import holds_policy

from .querysets import StorageProfileQuerySet, TombstoneQuerySet


@holds_policy
class StorageProfile(models.Model):
    """A profile of the settings, with the policy that people set here. Rows are made by the settings alone."""

    name = models.CharField(_("name"), max_length=63, unique=True, editable=False)
    alias = models.CharField(_("alias of STORAGES"), max_length=120, editable=False)
    container = models.CharField(_("container"), max_length=255, blank=True, editable=False)
    backend = models.CharField(_("backend"), max_length=255, editable=False)
    driver = models.CharField(_("driver"), max_length=255, editable=False)
    is_default = models.BooleanField(_("default"), default=False, editable=False)
    is_configured = models.BooleanField(_("in the settings"), default=True, editable=False)
    synced_at = models.DateTimeField(_("synced at"), default=timezone.now, editable=False)

    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("Off: takes no new objects. Reading and deleting go on.")
    )
    read_only = models.BooleanField(
        _("read-only"), default=False, help_text=_("On: nothing is stored or removed. What is deleted waits.")
    )
    note = models.CharField(_("note"), max_length=255, blank=True, help_text=_("Shown to whoever is refused."))

    objects = StorageProfileQuerySet.as_manager()

    class Meta:
        verbose_name = _("storage profile")
        verbose_name_plural = _("storage profiles")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Tombstone(models.Model):
    """An object that no row needs any more. It is written with that change, and goes when the bytes are gone."""

    profile = models.CharField(_("profile"), max_length=63)
    key = models.CharField(_("key"), max_length=1024)
    origin = models.CharField(_("origin"), max_length=200, help_text=_("The model and field that named the object."))
    size = models.BigIntegerField(_("size"), null=True, help_text=_("In bytes, where it is known."))
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True, db_index=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    not_before = models.DateTimeField(_("not before"), null=True, db_index=True, help_text=_("Empty: at once."))
    last_error = models.TextField(_("last error"), blank=True)

    objects = TombstoneQuerySet.as_manager()

    class Meta:
        verbose_name = _("object to remove")
        verbose_name_plural = _("objects to remove")
        ordering = ("-created_at",)
        permissions = (("purge_tombstone", _("Can purge an object at once")),)

    def __str__(self) -> str:
        return f"{self.profile}: {self.key}"
