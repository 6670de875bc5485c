"""Brings the rows in line with what code declares.

Safe to run at any time and by many processes at once: it reads first, and writes only what differs by guarded updates.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections, router

from .cron import Cron
from .declarations import Declaration, declared
from .models import ScheduledTask
from .planning import reschedule
from .triggers import Every

if TYPE_CHECKING:
    from .querysets import ScheduledTaskQuerySet

logger = logging.getLogger(__name__)


def sync(*, using: str | None = None) -> None:
    """Create rows for new tasks, refresh what code owns in known ones, and mark those that code dropped as gone."""
    rows = ScheduledTask.objects.using(using or router.db_for_write(ScheduledTask))
    wanted = {declaration.name: declaration for declaration in declared}
    _create(rows, [wanted[name] for name in wanted.keys() - set(rows.values_list("name", flat=True))])
    for task in rows.all():
        declaration = wanted.get(task.name)
        if declaration is None:
            _drop(rows, task)
        else:
            _refresh(rows, task, declaration)


def sync_at_start() -> None:
    """:func:`sync` for a process that starts: trouble with the database is logged, the next one does it."""
    try:
        sync()
    except DatabaseError as error:
        logger.warning("Scheduled tasks could not be written to their rows: %s", error)
    finally:
        connections.close_all()


def _create(rows: ScheduledTaskQuerySet, declarations: list[Declaration]) -> None:
    new = [ScheduledTask(name=each.name, **_owned(each)) for each in declarations]
    rows.bulk_create(new, ignore_conflicts=True)
    unplanned = rows.filter(name__in=[task.name for task in new], next_run_at__isnull=True)
    for pk in unplanned.values_list("pk", flat=True):
        reschedule(pk, using=rows.db)


def _refresh(rows: ScheduledTaskQuerySet, task: ScheduledTask, declaration: Declaration) -> None:
    owned = _owned(declaration)
    changed = {name: value for name, value in owned.items() if getattr(task, name) != value}
    if not changed:
        return
    rows.filter(pk=task.pk).update(**changed)
    before = task.schedule
    for name, value in changed.items():
        setattr(task, name, value)
    if task.schedule != before or "gone" in changed:
        reschedule(task.pk, using=rows.db)


def _drop(rows: ScheduledTaskQuerySet, task: ScheduledTask) -> None:
    if not task.gone:
        rows.filter(pk=task.pk).update(gone=True, next_run_at=None)


def _owned(declaration: Declaration) -> dict[str, Any]:
    trigger = declaration.trigger
    return {
        "trigger": str(trigger),
        "interval": trigger.interval if isinstance(trigger, Every) else None,
        "cron": trigger.expression if isinstance(trigger, Cron) else "",
        "timezone": trigger.zone if isinstance(trigger, Cron) else "",
        "misfire": declaration.misfire,
        "on_startup": declaration.on_startup,
        "critical": declaration.critical,
        "timeout": declaration.timeout,
        "max_concurrency": declaration.max_concurrency,
        "gone": False,
    }
