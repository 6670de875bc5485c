"""Scheduled tasks and their runs.

A task that waits has a ``next_run_at``; one that is under way, disabled or gone has none. Whoever fires it takes the
time away and writes the run in one transaction, so it never fires twice and never overlaps itself.
"""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from koan_django.core.leases import Leased

from .cron import EXPRESSION_LENGTH, Cron
from .querysets import ScheduledTaskQuerySet, TaskRunQuerySet
from .triggers import LONGEST, SHORTEST, Every, Trigger

logger = logging.getLogger(__name__)


class RunTrigger(models.TextChoices):
    """Why a run came to be."""

    SCHEDULE = "schedule", _("schedule")
    STARTUP = "startup", _("startup")
    MANUAL = "manual", _("manual")
    CATCH_UP = "catch-up", _("catch-up")


class RunState(models.TextChoices):
    """How far a run is, or how it ended."""

    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    TIMEOUT = "timeout", _("timeout")
    INTERRUPTED = "interrupted", _("interrupted")
    SKIPPED = "skipped", _("skipped")


class Misfire(models.TextChoices):
    """What becomes of planned times that could not be kept."""

    RUN_ONCE = "run-once", _("run once, as soon as possible")
    SKIP = "skip", _("wait for the next")


#: A run in one of these is not over.
UNDER_WAY = (RunState.QUEUED, RunState.RUNNING)


class ScheduledTask(models.Model):
    """A task that code declares. Code owns its defaults; people own ``enabled`` and the override of its trigger.

    It has an interval or a cron expression, never both; ``timezone`` belongs to the expression.
    """

    name = models.CharField(_("name"), max_length=150, unique=True)
    trigger = models.CharField(_("trigger in code"), max_length=200)
    interval = models.DurationField(_("interval in code"), null=True, blank=True)
    interval_override = models.DurationField(
        _("interval instead"),
        null=True,
        blank=True,
        validators=[MinValueValidator(SHORTEST), MaxValueValidator(LONGEST)],
        help_text=_("Seconds, or “2 01:30:00” for 2 days and 1.5 hours. Empty: the interval in code."),
    )
    cron = models.CharField(_("cron expression in code"), max_length=EXPRESSION_LENGTH, blank=True)
    cron_override = models.CharField(
        _("cron expression instead"),
        max_length=EXPRESSION_LENGTH,
        blank=True,
        help_text=_("Five fields: minute hour day-of-month month day-of-week. Empty: the expression in code."),
    )
    timezone = models.CharField(_("time zone"), max_length=63, blank=True)
    misfire = models.CharField(_("missed times"), max_length=8, choices=Misfire.choices, default=Misfire.RUN_ONCE)
    on_startup = models.BooleanField(_("on startup"), default=False)
    critical = models.BooleanField(_("critical"), default=False)
    timeout = models.DurationField(_("timeout"), null=True, blank=True)
    max_concurrency = models.PositiveIntegerField(_("runs at once"), default=1)
    enabled = models.BooleanField(_("enabled"), default=True)
    gone = models.BooleanField(_("gone"), default=False, help_text=_("Code does not declare it any more."))
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, db_index=True)
    last_state = models.CharField(_("last state"), max_length=12, blank=True, choices=RunState.choices)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    last_finished_at = models.DateTimeField(_("last run ended"), null=True, blank=True)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)
    interruptions = models.PositiveIntegerField(_("interruptions in a row"), default=0)
    fence = models.BigIntegerField(_("fencing token"), default=0, editable=False)

    #: The time of the database, on rows read through ``clocked()``.
    clock: datetime

    objects = ScheduledTaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("scheduled task")
        verbose_name_plural = _("scheduled tasks")
        ordering = ("name",)
        permissions = (("run_scheduledtask", _("Can run, enable and disable a scheduled task")),)
        constraints = (
            models.CheckConstraint(condition=Q(max_concurrency__gte=1), name="koan_sched_concurrency"),
            models.CheckConstraint(
                condition=Q(interval__gt=timedelta(0), cron="") | (Q(interval__isnull=True) & ~Q(cron="")),
                name="koan_sched_trigger",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def drifted(self) -> bool:
        """Whether the trigger in force is not the one in code."""
        return self.schedule != self.declared_schedule

    @property
    def declared_schedule(self) -> Trigger:
        """The trigger in code."""
        if self.interval is None:
            return Cron(self.cron, self.timezone)
        return Every(seconds=self.interval.total_seconds())

    @property
    def schedule(self) -> Trigger:
        """The trigger in force: what people set, unless it cannot be."""
        if self.interval is not None:
            return Every(seconds=(self.interval_override or self.interval).total_seconds())
        override = Cron(self.cron_override or self.cron, self.timezone)
        if self.cron_override and (problem := override.problem()):
            logger.error("%s goes by the expression in code, since %s: %s", self.name, override, problem)
            return self.declared_schedule
        return override

    def clean(self) -> None:
        """Refuse an expression that cannot be."""
        if self.cron_override and (problem := Cron(self.cron_override, self.timezone).problem()):
            raise ValidationError({"cron_override": problem})


class TaskRun(Leased):
    """One run. Its lease is the sign of life of the worker; its token is the task's ``fence`` when it began."""

    uuid = models.UUIDField(_("id"), unique=True, default=uuid.uuid4, editable=False)
    task = models.ForeignKey(ScheduledTask, models.CASCADE, related_name="runs", verbose_name=_("task"))
    trigger = models.CharField(_("trigger"), max_length=10, choices=RunTrigger.choices)
    state = models.CharField(_("state"), max_length=12, choices=RunState.choices, default=RunState.QUEUED)
    planned_at = models.DateTimeField(_("planned at"), db_index=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    deadline = models.DateTimeField(_("deadline"), null=True, blank=True)
    duration = models.DurationField(_("duration"), null=True, blank=True)
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    correlation_id = models.CharField(_("correlation id"), max_length=128, blank=True, db_index=True)
    progress = models.JSONField(_("progress"), null=True, blank=True)
    result = models.JSONField(_("result"), null=True, blank=True)
    log = models.TextField(_("log"), blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    sends = models.PositiveIntegerField(_("times sent"), default=1)
    resend_at = models.DateTimeField(_("sent again at"), null=True, blank=True)

    objects = TaskRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(fields=["task", "planned_at"], name="koan_sched_planned_once"),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(lease_until__isnull=False), name="koan_sched_running_leased"
            ),
        )
        indexes = (
            models.Index(fields=["state", "lease_until"], name="koan_sched_lease"),
            models.Index(fields=["state", "resend_at"], name="koan_sched_resend"),
        )

    def __str__(self) -> str:
        return f"{self.task.name} {self.planned_at:%Y-%m-%d %H:%M:%S}"
