"""Runs a task in this process: under its lease, in its context, with its outcome recorded."""

from __future__ import annotations

import logging
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from celery.exceptions import SoftTimeLimitExceeded

from koan_django.core import faults
from koan_django.core.context import correlation, tenant
from koan_django.core.databases import close_old
from koan_django.core.dispatch import LIMIT_GRACE
from koan_django.core.redaction import redact_text
from koan_django.core.telemetry import span

from .beginning import begin
from .concluding import ERROR_LENGTH, TRACEBACK_LENGTH, Outcome, finish
from .declarations import declared
from .exceptions import RunCancelledError
from .handles import Run
from .models import RunState, TaskRun
from .targets import call

if TYPE_CHECKING:
    from datetime import timedelta

    from koan_django.core.leases import Held

    from .declarations import Declaration

logger = logging.getLogger(__name__)
_BEFORE_RECORD = faults.point("scheduling.run.before_record")


def execute(pk: int) -> None:
    """Run the queued run ``pk``. One that is begun, ended or gone is left alone: its message came twice.

    A worker whose code does not know the task leaves it queued: it is sent again, perhaps to one that does.
    """
    run = TaskRun.objects.select_related("task").filter(pk=pk, state=RunState.QUEUED).first()
    if run is None:
        return
    declaration = declared.get(run.task.name)
    if declaration is None:
        logger.warning("This process declares no scheduled task %s; the run waits for one that does", run.task.name)
        return
    held = begin(run)
    if held is not None:
        run.refresh_from_db()
        with correlation.use(run.correlation_id), tenant.use(None):
            _perform(run, declaration, held)


def _perform(run: TaskRun, declaration: Declaration, held: Held) -> None:
    handle = _handle(run, held)
    try:
        outcome = _attempt(handle, declaration, held)
    except BaseException:  # the process is ending: say so, so that nobody has to wait for the lease
        state = RunState.TIMEOUT if handle.expired else RunState.INTERRUPTED
        _record(run, handle, held, Outcome(state, "its process was told to end"))
        raise
    _record(run, handle, held, outcome)


def _attempt(handle: Run, declaration: Declaration, held: Held) -> Outcome:
    try:
        with ExitStack() as stack:
            heartbeat = stack.enter_context(held.keep(limit=_limit(declaration), values=handle.values))
            handle._lost = lambda: heartbeat.lost
            stack.enter_context(span("scheduling.run", task=handle.task, run=str(handle.id), trigger=handle.trigger))
            call(declaration.target, declaration.takes_run, handle)
    except Exception as error:
        return _failure(handle, error)
    if handle.expired:
        return Outcome(RunState.TIMEOUT, f"it ended after {handle.elapsed:.1f} s, when its time was over")
    return Outcome(RunState.SUCCEEDED)


def _limit(declaration: Declaration) -> timedelta | None:
    """A run that hangs gives no more signs of life once even its grace is over; then it counts as abandoned."""
    return None if declaration.timeout is None else declaration.timeout + LIMIT_GRACE


def _failure(handle: Run, error: Exception) -> Outcome:
    text = redact_text(f"{type(error).__name__}: {error}")[:ERROR_LENGTH]
    trace = redact_text("".join(traceback.format_exception(error)))[-TRACEBACK_LENGTH:]
    late = isinstance(error, SoftTimeLimitExceeded) or (isinstance(error, RunCancelledError) and handle.expired)
    if late:
        return Outcome(RunState.TIMEOUT, f"it was ended after {handle.elapsed:.1f} s, when its time was over", trace)
    return Outcome(RunState.FAILED, text, trace)


def _record(run: TaskRun, handle: Run, held: Held, outcome: Outcome) -> None:
    _BEFORE_RECORD()
    close_old()  # a restart of the database during the run must not cost its record
    try:
        finish(run, held, outcome, handle.elapsed, handle.values())
    except SoftTimeLimitExceeded:  # it struck a moment too late
        finish(run, held, outcome, handle.elapsed, handle.values())


def _handle(run: TaskRun, held: Held) -> Run:
    timeout: timedelta | None = run.task.timeout
    return Run(
        id=run.uuid,
        task=run.task.name,
        trigger=run.trigger,
        planned_at=run.planned_at,
        started_at=run.started_at or run.planned_at,
        attempt=run.attempt,
        deadline=run.deadline,
        interval=_interval(run),
        previous_success=run.task.last_success_at,
        fencing_token=held.token,
        _timeout=timeout,
        _renew=held.renew,
    )


def _interval(run: TaskRun) -> timedelta | None:
    earlier = TaskRun.objects.filter(task_id=run.task_id, planned_at__lt=run.planned_at).order_by("-planned_at")
    previous = earlier.values_list("planned_at", flat=True).first()
    return None if previous is None else run.planned_at - previous
