"""Core's few tables: health facts, facts, elections, leases, breakers, the policy version, the audit and its seals.

``Overview`` and ``Trail`` have none; they carry the permissions of the pages.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .audit.models import AuditEvent, AuditSeal
from .leases import Leased
from .querysets import ElectionQuerySet, HealthFactQuerySet, LeaseQuerySet, ProcessFactQuerySet

__all__ = [
    "AuditEvent",
    "AuditSeal",
    "Election",
    "HealthFact",
    "HealthStatus",
    "Lease",
    "Overview",
    "PolicyVersion",
    "ProcessFact",
    "Trail",
]


class HealthStatus(models.TextChoices):
    """From best to worst; ``unknown`` is what an expired fact says."""

    HEALTHY = "healthy", _("healthy")
    DEGRADED = "degraded", _("degraded")
    UNHEALTHY = "unhealthy", _("unhealthy")
    UNKNOWN = "unknown", _("unknown")


class HealthFact(models.Model):
    """What one process last said about one thing. It counts until it expires."""

    name = models.CharField(_("name"), max_length=120)
    reporter = models.CharField(_("reporter"), max_length=120, help_text=_("host:pid:role"))
    status = models.CharField(_("status"), max_length=10, choices=HealthStatus.choices)
    critical = models.BooleanField(_("critical"), default=False)
    message = models.CharField(_("message"), max_length=2048, blank=True)
    data = models.JSONField(_("data"), default=dict, blank=True)
    since = models.DateTimeField(_("in this state since"))
    reported_at = models.DateTimeField(_("reported at"))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects = HealthFactQuerySet.as_manager()

    class Meta:
        verbose_name = _("health fact")
        verbose_name_plural = _("health facts")
        ordering = ("name", "reporter")
        constraints = (models.UniqueConstraint(fields=["name", "reporter"], name="koan_core_fact_unique"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.status}"


class ProcessFact(models.Model):
    """What one process has chosen for one subject, and why. It counts until it expires."""

    subject = models.CharField(_("subject"), max_length=120)
    reporter = models.CharField(_("process"), max_length=120, help_text=_("host:pid:role"))
    selection = models.CharField(_("selection"), max_length=500)
    reason = models.CharField(_("reason"), max_length=1000, blank=True)
    alternatives = models.JSONField(_("alternatives"), default=list, blank=True)
    since = models.DateTimeField(_("since"))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects = ProcessFactQuerySet.as_manager()

    class Meta:
        verbose_name = _("fact")
        verbose_name_plural = _("facts")
        ordering = ("subject", "reporter")
        constraints = (models.UniqueConstraint(fields=["subject", "reporter"], name="koan_core_pfact_unique"),)

    def __str__(self) -> str:
        return f"{self.subject}: {self.selection}"


class Election(models.Model):
    """What some process has elected for a subject, so that all follow it. ``place``: lower is better."""

    subject = models.CharField(_("subject"), max_length=120, unique=True)
    selection = models.CharField(_("selection"), max_length=500, blank=True)
    priority = models.IntegerField(_("priority"), default=-1)
    place = models.IntegerField(_("place"), default=0)
    elected_by = models.CharField(_("elected by"), max_length=120, blank=True, help_text=_("host:pid:role"))
    elected_at = models.DateTimeField(_("elected at"))
    alive_until = models.DateTimeField(_("alive until"))

    objects = ElectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("election")
        verbose_name_plural = _("elections")
        default_permissions = ("view",)
        ordering = ("subject",)

    def __str__(self) -> str:
        return f"{self.subject}: {self.selection}"


class Lease(Leased):
    """A name that one process at a time may hold."""

    name = models.CharField(_("name"), max_length=200, unique=True)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")
        ordering = ("name",)
        permissions = (("release_lease", _("Can release a lease")),)

    def __str__(self) -> str:
        return self.name


class PolicyVersion(models.Model):
    """One row: how often people have changed a policy, and what they changed last."""

    version = models.BigIntegerField(_("version"), default=0)
    what = models.CharField(_("changed"), max_length=200, blank=True)
    changed_at = models.DateTimeField(_("changed at"), null=True)

    class Meta:
        verbose_name = _("policy version")
        verbose_name_plural = _("policy versions")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.version)


class Breaker(models.Model):
    """The state of a circuit breaker that all processes share, see :class:`koan_django.core.circuits.Circuit`."""

    class State(models.TextChoices):
        CLOSED = "closed", _("closed")
        OPEN = "open", _("open")
        HALF_OPEN = "half-open", _("half-open")

    name = models.CharField(_("name"), max_length=200, unique=True)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.CLOSED)
    failures = models.JSONField(_("recent failures"), default=list, blank=True)
    openings = models.PositiveIntegerField(_("openings in a row"), default=0)
    until = models.DateTimeField(_("open until"), null=True, blank=True)
    probes = models.JSONField(_("probes under way"), default=list, blank=True)
    forced = models.BooleanField(_("tripped by hand"), default=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    changed_at = models.DateTimeField(_("in this state since"), null=True, blank=True)
    generation = models.BigIntegerField(default=0, editable=False)
    version = models.BigIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        ordering = ("name",)
        permissions = (
            ("trip_breaker", _("Can open a circuit breaker by hand")),
            ("reset_breaker", _("Can close a circuit breaker by hand")),
        )

    def __str__(self) -> str:
        return self.name


class Overview(models.Model):
    """No table: the Overview page in the admin hangs on it, with a permission of its own."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


class Trail(models.Model):
    """No table: the Trail page in the admin hangs on it, with a permission of its own."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("trail")
        verbose_name_plural = _("trail")
