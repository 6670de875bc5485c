"""What people may do with a scheduled task: the admin and the command call these."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.utils import timezone

from koan_django.core import audit
from koan_django.core.policy import announce

from .cron import Cron
from .exceptions import UnknownTaskError
from .firing import request_run
from .models import ScheduledTask
from .planning import reschedule
from .sending import send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from .models import TaskRun
    from .querysets import ScheduledTaskQuerySet


def run_now(name: str) -> TaskRun:
    """Have a worker run ``name`` at once; without Celery this process does, after the commit.

    Raises :class:`UnknownTaskError` and :class:`BusyError`.
    """
    run = request_run(name)
    send(run)
    return run


def enable(name: str) -> None:
    """Let ``name`` run on its schedule."""
    with _changing(name, "scheduling.enable") as task:
        _row(task).update(enabled=True)
        reschedule(task.pk)


def disable(name: str) -> None:
    """Keep ``name`` from running on its schedule. A run that has begun goes on."""
    with _changing(name, "scheduling.disable") as task:
        _row(task).update(enabled=False, next_run_at=None)


def override_interval(name: str, interval: timedelta | None) -> None:
    """Run ``name`` at ``interval`` instead of the one in code; ``None`` goes back to that."""
    with _changing(name, "scheduling.override", to=None if interval is None else str(interval)) as task:
        _row(task).update(interval_override=interval)
        reschedule(task.pk)


def override_cron(name: str, expression: str) -> None:
    """Run ``name`` by ``expression`` instead of the one in code, in its time zone; an empty one goes back to that.

    Raises :class:`DeclarationError` for one that cannot be.
    """
    with _changing(name, "scheduling.override", to=expression or None) as task:
        if expression:
            Cron(expression, task.timezone).following(timezone.now())
        _row(task).update(cron_override=expression)
        reschedule(task.pk)


@contextmanager
def _changing(name: str, action: str, **data: str | None) -> Iterator[ScheduledTask]:
    """Change the task called ``name`` in one transaction with the audit event of it."""
    using = router.db_for_write(ScheduledTask)
    with transaction.atomic(using=using):
        task = ScheduledTask.objects.using(using).filter(name=name, gone=False).first()
        if task is None:
            raise UnknownTaskError(f"there is no scheduled task {name!r}")
        yield task
        audit.record(action, task, data=data)
        announce(f"scheduledtask {name}", using=using)


def _row(task: ScheduledTask) -> ScheduledTaskQuerySet:
    return ScheduledTask.objects.using(task._state.db).filter(pk=task.pk)
