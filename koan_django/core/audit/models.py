"""The rows of audit: events, and the seals that chain them. Rows are added and never changed."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .exceptions import AppendOnlyError
from .querysets import AuditEventQuerySet, AuditSealQuerySet


class AppendOnly(models.Model):
    """Abstract: a row that can be added, and neither changed nor deleted through its model."""

    class Meta:
        abstract = True

    def save(self, **kwargs: Any) -> None:
        """Insert the row; raises :class:`AppendOnlyError` when it is there already."""
        if not self._state.adding:
            self._refuse("change")
        super().save(**{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise :class:`AppendOnlyError`."""
        self._refuse("delete")

    def _refuse(self, verb: str) -> NoReturn:
        raise AppendOnlyError(
            f"{self!r} cannot be {verb}d",
            why="audit rows are only added",
            fix="Old ones go by KOAN['CORE']['AUDIT']['RETENTION'], in whole sealed batches.",
        )


class AuditSeal(AppendOnly):
    """One link of the chain. Its hash covers the link before it, and what its events said when they were sealed."""

    number = models.PositiveBigIntegerField(_("number"), unique=True)
    format = models.PositiveSmallIntegerField(_("format"), default=1, editable=False)
    previous = models.CharField(_("hash before it"), max_length=64)
    first_id = models.BigIntegerField(_("first event"))
    last_id = models.BigIntegerField(_("last event"))
    count = models.PositiveIntegerField(_("events"))
    digest = models.CharField(_("digest of the events"), max_length=64)
    key_id = models.CharField(_("key"), max_length=16, blank=True, help_text=_("Empty: sealed without a key."))
    sealed_at = models.DateTimeField(_("sealed at"), default=timezone.now, db_index=True)
    hash = models.CharField(_("hash"), max_length=64)

    objects = AuditSealQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit seal")
        verbose_name_plural = _("audit seals")
        ordering = ("-number",)

    def __str__(self) -> str:
        return f"{self.number}:{self.hash[:16]}"


class AuditEvent(AppendOnly):
    """Somebody did something to something. ``seal`` is set once, by the sealing, and is no part of what was said."""

    at = models.DateTimeField(_("at"), default=timezone.now, db_index=True)
    action = models.CharField(_("action"), max_length=100)
    actor = models.CharField(_("actor"), max_length=200)
    actor_reference = models.CharField(_("row of the actor"), max_length=200, blank=True)
    process = models.CharField(_("process"), max_length=120, blank=True)
    object_type = models.CharField(_("kind of object"), max_length=150, blank=True)
    object_id = models.CharField(_("object id"), max_length=255, blank=True)
    object_text = models.CharField(_("object"), max_length=255, blank=True)
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True)
    tenant = models.CharField(_("tenant"), max_length=64, blank=True)
    data = models.JSONField(_("data"), default=dict, blank=True)
    seal = models.ForeignKey(
        AuditSeal,
        on_delete=models.PROTECT,
        verbose_name=_("seal"),
        related_name="events",
        null=True,
        blank=True,
        db_index=False,
        editable=False,
    )

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ("-id",)
        # Named here: for a text column PostgreSQL would get a second index with each ``db_index``, and rows are many.
        indexes = (
            # The events of a seal in their order, and those that have none yet.
            models.Index(fields=["seal", "id"], name="koan_core_audit_seal"),
            models.Index(fields=["action", "id"], name="koan_core_audit_action"),
            models.Index(fields=["correlation_id", "at"], name="koan_core_audit_story"),
        )
        permissions = (("export_auditevent", _("Can export audit events")),)

    def __str__(self) -> str:
        return f"{self.action} {self.object_text}".rstrip()
