"""What people may do with a scheduled task: the admin and the command call these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import router

from koan_django.core.policy import announce

from .exceptions import UnknownTaskError
from .firing import request_run
from .models import ScheduledTask
from .planning import reschedule
from .sending import send

if TYPE_CHECKING:
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
    rows = _rows(name)
    rows.update(enabled=True)
    reschedule(rows.values_list("pk", flat=True).get())
    announce(f"scheduledtask {name}", using=rows.db)


def disable(name: str) -> None:
    """Keep ``name`` from running on its schedule. A run that has begun goes on."""
    rows = _rows(name)
    rows.update(enabled=False, next_run_at=None)
    announce(f"scheduledtask {name}", using=rows.db)


def override_interval(name: str, interval: timedelta | None) -> None:
    """Run ``name`` at ``interval`` instead of the one in code; ``None`` goes back to that."""
    rows = _rows(name)
    rows.update(interval_override=interval)
    reschedule(rows.values_list("pk", flat=True).get())
    announce(f"scheduledtask {name}", using=rows.db)


def _rows(name: str) -> ScheduledTaskQuerySet:
    rows = ScheduledTask.objects.using(router.db_for_write(ScheduledTask)).filter(name=name, gone=False)
    if not rows.exists():
        raise UnknownTaskError(f"there is no scheduled task {name!r}")
    return rows
