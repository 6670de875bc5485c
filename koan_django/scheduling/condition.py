"""How the critical tasks are: health facts that beat reports, and the readiness of every process."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Min, Q

from koan_django.core import health

from .models import RunState, ScheduledTask
from .triggers import readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


def findings() -> Iterator[health.Finding]:
    """One finding for each critical task."""
    queued = Min("runs__planned_at", filter=Q(runs__state=RunState.QUEUED))
    tasks = ScheduledTask.objects.filter(critical=True, gone=False).clocked().annotate(queued_since=queued)
    for task in tasks:
        status, message = _judge(task, getattr(task, "queued_since", None) or task.next_run_at)
        yield health.Finding(f"scheduling.{task.name}", status, message, critical=True)


def report() -> None:
    """Say how the critical tasks are, as seen by this process."""
    for found in findings():
        health.report(found.name, found.status, found.message, critical=found.critical)


@health.probe("scheduling")
def critical_tasks() -> health.Finding | None:
    """Unhealthy while a critical task is."""
    bad = [found for found in findings() if found.status == "unhealthy"]
    if not bad:
        return None
    return health.Finding("scheduling", "unhealthy", "; ".join(f"{each.name}: {each.message}" for each in bad))


def _judge(task: ScheduledTask, waiting_since: datetime | None) -> tuple[health.Status, str]:
    if not task.enabled:
        return "degraded", "disabled"
    if task.last_state in (RunState.FAILED, RunState.TIMEOUT):
        return "unhealthy", f"the last run: {task.last_state}, {task.last_error}"
    late = task.clock - waiting_since if waiting_since else timedelta(0)
    if late > task.schedule.patience:
        return "unhealthy", f"overdue by {readable(timedelta(seconds=round(late.total_seconds())))}"
    if task.last_state == RunState.INTERRUPTED:
        return "degraded", f"the last run was interrupted: {task.last_error}"
    return "healthy", ""
