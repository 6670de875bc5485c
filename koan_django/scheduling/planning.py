"""When a task runs next. The only place that writes ``next_run_at``, besides firing, which takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import router

from .models import RunState, RunTrigger, ScheduledTask

if TYPE_CHECKING:
    from datetime import datetime

    from .models import TaskRun


def plan_after(run: TaskRun, *, using: str) -> None:
    """Plan the next run, now that ``run`` is over: at its interval, or at once when it was interrupted.

    A task whose runs are interrupted again and again goes back to its interval after the first repetition: it may be
    what kills its workers. While a scheduled run is still under way one that was asked for by hand plans nothing.
    """
    rows = ScheduledTask.objects.using(using).active().filter(pk=run.task_id)
    task = rows.clocked().first()
    if task is None:
        return
    if run.trigger == RunTrigger.MANUAL and (task.next_run_at or _others(run, using)):
        return
    at_once = run.state == RunState.INTERRUPTED and task.interruptions <= 1
    rows.update(next_run_at=task.clock if at_once else task.every.following(task.clock))


def reschedule(pk: int, *, using: str | None = None) -> None:
    """Plan anew from the end of the last run: the interval changed, or the task came back."""
    rows = ScheduledTask.objects.using(using or router.db_for_write(ScheduledTask)).active().filter(pk=pk).idle()
    task = rows.clocked().first()
    if task is not None:
        rows.update(next_run_at=_from_last(task, task.clock))


def _from_last(task: ScheduledTask, clock: datetime) -> datetime:
    return max(task.every.following(task.last_finished_at or clock), clock)


def _others(run: TaskRun, using: str) -> bool:
    return type(run).objects.using(using).filter(task_id=run.task_id).exclude(pk=run.pk).under_way().exists()
