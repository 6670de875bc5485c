"""Celery's worker pool (prefork, threads or solo) as a place to run batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from koan_django.messaging.buses.base import Batch
from koan_django.messaging.invocation import handle
from koan_django.messaging.verdicts import Verdict

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Job:
    """A batch in Celery's hands. ``accepted`` once a child has it."""

    number: int
    batch: Batch
    done: Callable[[Batch, list[Verdict] | None], None]
    accepted: bool = False


class CeleryPool:
    """Submits from any thread; with an event loop the loop's own thread does it."""

    def __init__(self, pool: Any, hub: Any) -> None:
        self._pool = pool
        self._hub = hub
        self._jobs: dict[int, _Job] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self.closing = False

    @property
    def size(self) -> int:
        """How many batches run at once."""
        return int(getattr(self._pool, "num_processes", 0) or self._pool.limit or 1)

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        """Hand ``batch`` to the pool; see :class:`~koan_django.messaging.buses.base.Pool`."""
        if self.closing:
            return False
        job = _Job(next(self._numbers), batch, done)
        self._jobs[job.number] = job
        self._hand_over(job)
        return True

    def resubmit(self) -> None:
        """Submit again what no child has accepted.

        Celery discards waiting work without a word when it loses its own broker connection. A batch that a child did
        accept meanwhile runs twice; the lease's token or the inbox lets one of them through.
        """
        lost = [job for job in list(self._jobs.values()) if not job.accepted]
        if lost:
            logger.info("Submitting %d batches again that the pool had discarded", len(lost))
        for job in lost:
            self._hand_over(job)

    def _hand_over(self, job: _Job) -> None:
        if self._hub is not None:
            self._hub.call_soon(self._apply, job)
        else:
            self._apply(job)

    def _apply(self, job: _Job) -> None:
        batch = job.batch
        result = self._pool.apply_async(
            handle,
            (batch.bus, batch.group, batch.deliveries),
            callback=lambda verdicts: self._finish(job, verdicts),
            error_callback=lambda *_args, **_kwargs: self._finish(job, None),
            accept_callback=lambda *_args, **_kwargs: self._accept(job),
        )
        if result is None and not job.accepted and job.number in self._jobs:
            self.closing = True
            self._finish(job, [Verdict("again")] * len(batch.deliveries))

    def _accept(self, job: _Job) -> None:
        job.accepted = True

    def _finish(self, job: _Job, verdicts: object) -> None:
        with self._lock:
            known = self._jobs.pop(job.number, None)
        if known is not None:  # a batch that was submitted twice finishes once
            found = verdicts if isinstance(verdicts, list) else None
            job.done(job.batch, found)
