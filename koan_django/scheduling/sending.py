"""Sends runs to a worker, and again when no worker began them: a broker may lose what it was given."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F

from koan_django.core.context import correlation
from koan_django.core.functions import Now

if TYPE_CHECKING:
    from .models import TaskRun

#: Doubles with each time, so that a backlog of a busy cluster is not fed by its own repetitions.
RESEND_AFTER = timedelta(seconds=10)
RESEND_AT_MOST = timedelta(minutes=10)
BATCH = 100


def send(run: TaskRun) -> None:
    """Have ``run`` begun once the current transaction has committed; in this process when there is no Celery."""
    from .tasks import run as job

    with correlation.use(run.correlation_id):
        replace(job, limit=run.task.timeout).dispatch(run.pk)


def send_again(using: str) -> int:
    """Send the queued runs that no worker has begun in time; return how many."""
    from .models import TaskRun

    sent = 0
    rows = TaskRun.objects.using(using)
    for run in rows.unanswered().filter(task__gone=False).select_related("task")[:BATCH]:
        delay = min(RESEND_AFTER * 2 ** min(run.sends, 20), RESEND_AT_MOST)
        mine = rows.in_state("queued").filter(pk=run.pk, sends=run.sends)
        if mine.update(sends=F("sends") + 1, resend_at=Now() + delay):
            send(run)
            sent += 1
    return sent
