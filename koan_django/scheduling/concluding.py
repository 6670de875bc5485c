"""Ends a run: its record, what the task shows of it, and the plan for the next, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F

from koan_django.core.functions import Now
from koan_django.core.telemetry import emit

from .models import RunState, ScheduledTask, TaskRun
from .planning import plan_after

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from koan_django.core.leases import Held

logger = logging.getLogger(__name__)

ERROR_LENGTH, TRACEBACK_LENGTH = 500, 16_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The texts are redacted."""

    state: RunState
    error: str = ""
    traceback: str = ""


def finish(run: TaskRun, held: Held, outcome: Outcome, seconds: float, values: dict[str, Any]) -> bool:
    """Record what became of ``run``; ``False`` when its lease was lost and somebody else has recorded an end."""
    mine = held.rows().filter(state=RunState.RUNNING)
    changes = {**values, "duration": timedelta(seconds=seconds)}
    if _conclude(run, mine, outcome, using=held.using, **changes):
        return True
    logger.warning("The run %s of %s lost its lease before it ended", run.uuid, run.task.name)
    return False


def interrupt(run: TaskRun, *, using: str) -> bool:
    """End a running ``run`` whose lease has ended: as ``timeout`` when its time was over, else as ``interrupted``."""
    rows = TaskRun.objects.using(using)
    abandoned = rows.abandoned().filter(pk=run.pk, lease_token=run.lease_token)
    late = rows.filter(pk=run.pk, deadline__lte=Now()).exists()
    outcome = (
        Outcome(RunState.TIMEOUT, "it was still running when its time was over")
        if late
        else Outcome(RunState.INTERRUPTED, f"{run.worker} gave no sign of life any more")
    )
    return _conclude(run, abandoned, outcome, using=using)


def skip(run: TaskRun, reason: str, *, using: str) -> bool:
    """End a queued ``run`` that is not to begin."""
    queued = TaskRun.objects.using(using).filter(pk=run.pk, state=RunState.QUEUED)
    return _conclude(run, queued, Outcome(RunState.SKIPPED, reason), using=using)


def _conclude(run: TaskRun, guarded: QuerySet[Any], outcome: Outcome, *, using: str, **changes: Any) -> bool:
    changes |= {"state": outcome.state, "error": outcome.error[:ERROR_LENGTH], "traceback": outcome.traceback}
    with transaction.atomic(using=using):
        if not guarded.update(finished_at=Now(), lease_until=None, **changes):
            return False
        run.state = outcome.state
        if outcome.state != RunState.SKIPPED:
            _show(run, outcome, using)
        plan_after(run, using=using)
    emit("scheduling.ended", task=run.task.name, run=str(run.uuid), state=outcome.state.value)
    return True


def _show(run: TaskRun, outcome: Outcome, using: str) -> None:
    interrupted = outcome.state == RunState.INTERRUPTED
    changes: dict[str, Any] = {
        "last_state": outcome.state,
        "last_error": outcome.error[:ERROR_LENGTH],
        "last_finished_at": Now(),
        "interruptions": F("interruptions") + 1 if interrupted else 0,
    }
    if outcome.state == RunState.SUCCEEDED:
        changes["last_success_at"] = Now()
    ScheduledTask.objects.using(using).filter(pk=run.task_id).update(**changes)
