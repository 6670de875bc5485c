"""When a task runs next. The only place that writes ``next_run_at``, besides firing, which takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import router

from .cron import Cron
from .models import Misfire, RunState, RunTrigger, ScheduledTask

if TYPE_CHECKING:
    from datetime import datetime

    from .models import TaskRun


def plan_after(run: TaskRun, *, using: str) -> None:
    """Plan the next run, now that ``run`` is over: by its trigger, or at once when it was interrupted.

    A task whose runs are interrupted again and again goes back to its trigger after the first repetition: it may be
    what kills its workers. While a scheduled run is still under way one that was asked for by hand plans nothing.
    """
    rows = ScheduledTask.objects.using(using).active().filter(pk=run.task_id)
    task = rows.clocked().first()
    if task is None:
        return
    if run.trigger == RunTrigger.MANUAL and (task.next_run_at or _others(run, using)):
        return
    at_once = run.state == RunState.INTERRUPTED and task.interruptions <= 1
    rows.update(next_run_at=task.clock if at_once else _next(task, run))


def reschedule(pk: int, *, using: str | None = None) -> None:
    """Plan anew from the end of the last run: the trigger changed, or the task came back."""
    rows = ScheduledTask.objects.using(using or router.db_for_write(ScheduledTask)).active().filter(pk=pk).idle()
    task = rows.clocked().first()
    if task is not None:
        rows.update(next_run_at=_from_last(task, task.clock))


def _next(task: ScheduledTask, run: TaskRun) -> datetime:
    """The time of a cron expression that came while ``run`` went on is in the past, and so due at once: once."""
    schedule = task.schedule
    if isinstance(schedule, Cron) and task.misfire == Misfire.RUN_ONCE and run.started_at is not None:
        return schedule.following(run.started_at)
    return schedule.following(task.clock)


def _from_last(task: ScheduledTask, clock: datetime) -> datetime:
    schedule = task.schedule
    if isinstance(schedule, Cron):  # what it missed while it was away is over
        return schedule.following(clock)
    return max(schedule.following(task.last_finished_at or clock), clock)


def _others(run: TaskRun, using: str) -> bool:
    return type(run).objects.using(using).filter(task_id=run.task_id).exclude(pk=run.pk).under_way().exists()
