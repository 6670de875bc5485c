"""Begins a run: takes its lease, unless it may not begin."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.db.models import F

from koan_django.core.functions import Now
from koan_django.core.leases import Held
from koan_django.core.process import identity

from .concluding import skip
from .conf import options
from .models import RunState, RunTrigger, ScheduledTask, TaskRun

if TYPE_CHECKING:
    from django.db.models import QuerySet


def begin(run: TaskRun) -> Held | None:
    """Take the lease of ``run``; ``None`` when somebody else has begun it, or when it had to be skipped.

    The update of the task's row makes all who begin one of its runs queue up, so that they can be counted.
    """
    using = router.db_for_write(TaskRun)
    with transaction.atomic(using=using):
        tasks = ScheduledTask.objects.using(using).filter(pk=run.task_id)
        tasks.update(fence=F("fence") + 1)
        task = tasks.get()
        waiting = TaskRun.objects.using(using).filter(pk=run.pk, state=RunState.QUEUED)
        if not waiting.exists():
            return None
        reason = _refusal(task, run, using)
        if reason:
            skip(run, reason, using=using)
            return None
        return _take(waiting, task, using)


def _refusal(task: ScheduledTask, run: TaskRun, using: str) -> str:
    if task.gone:
        return "code does not declare the task any more"
    if not task.enabled and run.trigger != RunTrigger.MANUAL:
        return "the task was disabled"
    if TaskRun.objects.using(using).filter(task=task).alive().count() >= task.max_concurrency:
        return f"{task.max_concurrency} of its runs are under way, and no more may be"
    return ""


def _take(waiting: QuerySet[TaskRun], task: ScheduledTask, using: str) -> Held:
    ttl = options().lease
    owner = f"{identity()}:{uuid.uuid4().hex[:8]}"
    pk = waiting.values_list("pk", flat=True).get()
    waiting.update(
        state=RunState.RUNNING,
        started_at=Now(),
        deadline=None if task.timeout is None else Now() + task.timeout,
        worker=identity(),
        lease_owner=owner,
        lease_token=task.fence,
        lease_until=Now() + ttl,
    )
    return Held(TaskRun, using, pk, owner, task.fence, ttl)
