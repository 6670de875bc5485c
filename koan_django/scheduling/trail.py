"""What scheduling tells of a story: the runs that belong to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models.functions import Coalesce

from koan_django.core.trail import Source, Step, source

from .models import RunState, TaskRun

if TYPE_CHECKING:
    from django.db.models import QuerySet

_TROUBLED = (RunState.FAILED, RunState.TIMEOUT, RunState.INTERRUPTED)


def _rows(correlation_id: str) -> QuerySet[TaskRun]:
    """From when it began; one that has not, from when it was planned."""
    rows = TaskRun.objects.filter(correlation_id=correlation_id).select_related("task")
    return rows.annotate(trail_at=Coalesce("started_at", "planned_at"))


def _step(row: TaskRun) -> Step:
    return Step(
        at=row.started_at or row.planned_at,
        kind="run",
        title=f"run of {row.task.name}",
        state=row.state,
        detail=row.error or f"by {row.get_trigger_display()}",
        who=row.worker,
        duration_ms=None if row.duration is None else row.duration.total_seconds() * 1000,
        attempt=row.attempt if row.attempt > 1 else None,
        begins=True,
        troubled=row.state in _TROUBLED,
    )


source("koan_scheduling.runs", Source(TaskRun, _rows, _step, at="trail_at", identifiers=("uuid",)))
