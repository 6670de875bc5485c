"""Puts right what was left behind: lost messages, dead workers, tasks that nobody planned, old records."""

from __future__ import annotations

from django.db import router

from koan_django.core.functions import Now

from .concluding import interrupt, skip
from .conf import options
from .models import RunState, ScheduledTask, TaskRun
from .planning import reschedule
from .sending import send_again

BATCH = 100
PURGE_BATCH = 1000


def sweep() -> None:
    """Do all of it, a bounded amount at a time; any number of processes may, at once."""
    using = router.db_for_write(TaskRun)
    end_abandoned(using)
    send_again(using)
    skip_orphans(using)
    plan_forgotten(using)


def end_abandoned(using: str) -> None:
    """End the runs whose worker gives no sign of life any more."""
    for run in TaskRun.objects.using(using).abandoned().select_related("task")[:BATCH]:
        interrupt(run, using=using)


def skip_orphans(using: str) -> None:
    """End the queued runs of tasks that no code declares."""
    for run in TaskRun.objects.using(using).in_state("queued").filter(task__gone=True).select_related("task")[:BATCH]:
        skip(run, "code does not declare the task any more", using=using)


def plan_forgotten(using: str) -> None:
    """Plan the tasks that should wait for their time and have none. It should find nothing."""
    forgotten = ScheduledTask.objects.using(using).active().filter(next_run_at__isnull=True).idle()
    for pk in forgotten.values_list("pk", flat=True)[:BATCH]:
        reschedule(pk, using=using)


def purge_old() -> int:
    """Delete the records of old runs that are over, a batch at a time, and return how many they were."""
    using = router.db_for_write(TaskRun)
    over = TaskRun.objects.using(using).exclude(state__in=(RunState.QUEUED, RunState.RUNNING))
    old = over.filter(planned_at__lt=Now() - options().retention)
    deleted = 0
    while pks := list(old.order_by("planned_at").values_list("pk", flat=True)[:PURGE_BATCH]):
        deleted += TaskRun.objects.using(using).filter(pk__in=pks).delete()[0]
    return deleted
