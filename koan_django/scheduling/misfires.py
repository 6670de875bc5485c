"""Planned times of a cron expression that were not kept, because beat was away or the run before went on for longer."""

from __future__ import annotations

from datetime import timedelta

from django.utils.translation import gettext as _

from koan_django.core.functions import Now

from .models import Misfire, RunState, RunTrigger, ScheduledTask, TaskRun
from .triggers import readable

#: Later than this is missed: a deployment restarts beat within it.
GRACE = timedelta(minutes=1)


def is_late(task: ScheduledTask) -> bool:
    """Whether the planned time of ``task``, read with its clock, was missed. An interval has none to miss."""
    return task.interval is None and task.next_run_at is not None and task.clock - task.next_run_at > GRACE


def is_skipped(task: ScheduledTask) -> bool:
    """Whether ``task`` lets what it missed be. The repetition of an interrupted run is no planned time."""
    return task.misfire == Misfire.SKIP and not task.interruptions and is_late(task)


def skipped(task: ScheduledTask) -> TaskRun:
    """Return the unsaved record of what ``task`` missed."""
    assert task.next_run_at is not None  # or it could not be late
    late = readable(timedelta(seconds=round((task.clock - task.next_run_at).total_seconds())))
    return TaskRun(
        task=task,
        trigger=RunTrigger.SCHEDULE,
        state=RunState.SKIPPED,
        planned_at=task.next_run_at,
        finished_at=Now(),
        error=_("beat came %(late)s late, and the task skips what it missed") % {"late": late},
    )
