"""Makes runs of tasks that are due, and sends them to a worker.

One transaction takes the time away from the task and writes the run, whose planned time is unique for the task. So any
number of beats may fire, and whichever is first has fired.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from koan_django.core import audit, faults
from koan_django.core.context import correlation
from koan_django.core.functions import Now
from koan_django.core.telemetry import emit

from .exceptions import BusyError, UnknownTaskError
from .misfires import is_late, is_skipped, skipped
from .models import RunTrigger, ScheduledTask, TaskRun
from .planning import reschedule
from .sending import RESEND_AFTER, send

if TYPE_CHECKING:
    from datetime import datetime

    from .querysets import ScheduledTaskQuerySet

#: Rows claimed in one transaction; beat goes on at once while there are more.
BATCH = 100
#: Beats that start within this time of each other count as one start.
STARTUP_WINDOW = timedelta(minutes=1)
_BEFORE_COMMIT = faults.point("scheduling.fire.before_commit")
_COMMITTED = faults.point("scheduling.fire.committed")


def seconds_until_due() -> float | None:
    """Return the seconds until the next task is due, 0 or less when one is, ``None`` when none waits."""
    waiting = _tasks().active().filter(next_run_at__isnull=False)
    soonest = waiting.order_by("next_run_at").clocked().first()
    if soonest is None or soonest.next_run_at is None:
        return None
    return (soonest.next_run_at - soonest.clock).total_seconds()


def fire_due() -> int:
    """Fire the tasks that are due and return how many, at most :data:`BATCH`."""
    return _fire(_tasks().due())


def fire_startup() -> int:
    """Fire the tasks that run on startup, unless they are under way or another beat has just done it."""
    recent = TaskRun.objects.filter(
        task=OuterRef("pk"), trigger=RunTrigger.STARTUP, planned_at__gt=Now() - STARTUP_WINDOW
    )
    waiting = _tasks().active().filter(on_startup=True, next_run_at__isnull=False)
    return _fire(waiting.exclude(Exists(recent)), startup=True)


def request_run(name: str) -> TaskRun:
    """Make a run of ``name`` that somebody asked for; it waits to be sent.

    Also a disabled task may be run. Raises :class:`UnknownTaskError`, and :class:`BusyError` when as many runs are
    under way as may be.
    """
    using = router.db_for_write(ScheduledTask)
    with transaction.atomic(using=using):
        rows = _tasks().filter(name=name, gone=False)
        if not rows.update(fence=F("fence")):  # locks the row, in every database
            raise UnknownTaskError(f"there is no scheduled task {name!r}")
        task = rows.get()
        if task.runs.using(using).under_way().count() >= task.max_concurrency:
            raise BusyError(f"{name} is under way", why=f"it runs {task.max_concurrency} at once", fix="Wait for it.")
        if task.max_concurrency == 1:
            rows.update(next_run_at=None)
        run = _made(task, RunTrigger.MANUAL, timezone.now())
        run.save(using=using)
        audit.record("scheduling.run", task, data={"run": str(run.uuid)})
    return run


def _tasks() -> ScheduledTaskQuerySet:
    return ScheduledTask.objects.using(router.db_for_write(ScheduledTask))


def _fire(tasks: ScheduledTaskQuerySet, *, startup: bool = False) -> int:
    with transaction.atomic(using=tasks.db):
        claimed = list(tasks.clocked().claimable()[:BATCH])
        missed = [] if startup else [task for task in claimed if is_skipped(task)]
        runs = [_planned(task, startup) for task in claimed if task not in missed]
        TaskRun.objects.using(tasks.db).bulk_create([*runs, *map(skipped, missed)], ignore_conflicts=True)
        ScheduledTask.objects.using(tasks.db).filter(pk__in=[task.pk for task in claimed]).update(next_run_at=None)
        for task in missed:
            reschedule(task.pk, using=tasks.db)
        _BEFORE_COMMIT()
    _COMMITTED()
    made = TaskRun.objects.using(tasks.db).filter(uuid__in=[run.uuid for run in runs]).select_related("task")
    for run in made if runs else ():
        emit("scheduling.fired", task=run.task.name, run=str(run.uuid), trigger=run.trigger)
        send(run)
    return len(claimed)


def _planned(task: ScheduledTask, startup: bool) -> TaskRun:
    if startup or task.next_run_at is None:
        return _made(task, RunTrigger.STARTUP, task.clock)
    trigger = RunTrigger.CATCH_UP if task.interruptions or is_late(task) else RunTrigger.SCHEDULE
    return _made(task, trigger, task.next_run_at)


def _made(task: ScheduledTask, trigger: RunTrigger, planned_at: datetime) -> TaskRun:
    run = TaskRun(task=task, trigger=trigger, planned_at=planned_at, attempt=task.interruptions + 1)
    run.correlation_id = correlation.current() or run.uuid.hex
    run.resend_at = Now() + RESEND_AFTER  # resolved by the insert
    return run
