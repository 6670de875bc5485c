"""Media's table: what was asked for, who renders it, and what came of it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased

from .querysets import DerivationQuerySet


class State(models.TextChoices):
    """The life of a derivation. ``failed`` is final until somebody asks for it again."""

    PENDING = "pending", _("pending")
    RENDERING = "rendering", _("rendering")
    READY = "ready", _("ready")
    FAILED = "failed", _("failed")


class Derivation(Leased):
    """One variant of one picture. The row is the claim: whoever holds its lease renders, and nobody else."""

    asset = models.CharField(_("model"), max_length=150, help_text=_("app_label.model"))
    source_pk = models.CharField(_("source"), max_length=64)
    key = models.CharField(_("derivation key"), max_length=64)
    recipe = models.CharField(_("recipe"), max_length=64)
    version = models.PositiveIntegerField(_("version"))

    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    not_before = models.DateTimeField(_("not before"), null=True, blank=True)
    stage = models.CharField(_("refused at"), max_length=16, blank=True)
    reason = models.TextField(_("reason"), blank=True)

    queued_at = models.DateTimeField(_("queued at"), default=timezone.now, db_index=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    duration_ms = models.PositiveIntegerField(_("duration"), null=True, blank=True, help_text=_("In milliseconds."))

    # Where an attempt is about to write, noted before it does: the next one removes what a dead one left.
    profile = models.CharField(_("profile"), max_length=63, blank=True)
    object_key = models.CharField(_("object key"), max_length=1024, blank=True)
    output_pk = models.CharField(_("variant"), max_length=64, blank=True)
    size = models.BigIntegerField(_("size"), null=True, blank=True, help_text=_("In bytes."))
    width = models.PositiveIntegerField(_("width"), null=True, blank=True)
    height = models.PositiveIntegerField(_("height"), null=True, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True, db_index=True)

    objects = DerivationQuerySet.as_manager()

    class Meta:
        verbose_name = _("derivation")
        verbose_name_plural = _("derivations")
        ordering = ("-queued_at", "-pk")
        constraints = (
            models.UniqueConstraint(fields=("asset", "source_pk", "key"), name="koan_media_derivation_unique"),
        )
        indexes = (models.Index(fields=("state", "not_before"), name="koan_media_derivation_due"),)
        permissions = (("reprocess_derivation", _("Can render a derivation again")),)

    def __str__(self) -> str:
        return f"{self.recipe}@{self.version} of {self.asset} {self.source_pk}"
