"""Celery's worker pool (prefork, threads or solo) as a place to run batches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from koan_django.core.telemetry import emit
from koan_django.core.texts import counted
from koan_django.messaging import handlers
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.exceptions import BusUnavailableError
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.handling.limits import exceeded
from koan_django.messaging.handling.verdicts import Verdict, failed, postponed

logger = logging.getLogger(__name__)

#: Without an event loop Celery waits so long for the result of a child that has died. Its own 10 s would hold up the
#: batch; a result that does come later is a duplicate.
LOST_SECONDS = 2.0
#: How often to look there for batches whose child was gone before it was known that it had them.
LOOK_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Job:
    """A batch in Celery's hands. ``result`` is what Celery knows it by, once it has it."""

    number: int
    batch: Batch
    done: Callable[[Batch, list[Verdict] | None], None]
    result: Any = None


class CeleryPool:
    """Submits from any thread; with an event loop the loop's own thread does it."""

    def __init__(self, pool: Any, hub: Any) -> None:
        self._pool = pool
        self._hub = hub
        self._jobs: dict[int, _Job] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._aside: SimpleQueue[_Job] | None = None
        if hub is None and _is_solo(pool):
            self._aside = SimpleQueue()
            threading.Thread(target=self._run_aside, args=[self._aside], name="koan-solo", daemon=True).start()
        self.closing = False
        if hub is None and self.enforces_limits:
            threading.Thread(target=self._watch, name="koan-pool", daemon=True).start()

    @property
    def enforces_limits(self) -> bool:
        """Whether a handler that takes too long can be ended: a child can, a thread cannot."""
        return type(self._pool).__module__ == "celery.concurrency.prefork"

    @property
    def size(self) -> int:
        """How many batches run at once."""
        return int(getattr(self._pool, "num_processes", 0) or self._pool.limit or 1)

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        """Hand ``batch`` to the pool; see :class:`~koan_django.messaging.buses.base.Pool`."""
        if self.closing:
            return False
        job = _Job(next(self._numbers), batch, done)
        with self._lock:
            self._jobs[job.number] = job
        self._hand_over(job)
        return True

    def resubmit(self) -> None:
        """Submit again what Celery has discarded.

        It does so without a word, and without calling back, when it loses its own broker connection: its tasks would
        come again. What is still in its cache is not lost.
        """
        with self._lock:
            lost = [job for job in self._jobs.values() if self._is_discarded(job)]
        if lost:
            logger.info("Submitting %s again that the pool had discarded", counted(len(lost), "batch", "batches"))
        for job in lost:
            self._hand_over(job)

    def _is_discarded(self, job: _Job) -> bool:
        cache = getattr(getattr(self._pool, "_pool", None), "_cache", None)
        number = getattr(job.result, "_job", None)
        return cache is not None and number is not None and number not in cache

    def _hand_over(self, job: _Job) -> None:
        if self._hub is not None:
            self._hub.call_soon(self._apply, job)
        elif self._aside is not None:
            self._aside.put(job)
        else:
            self._apply(job)

    def _run_aside(self, jobs: SimpleQueue[_Job]) -> None:
        """The solo pool runs a batch where it is submitted.

        Without an event loop that would be the consuming thread, which must go on keeping leases and heartbeats.
        """
        while True:
            self._apply(jobs.get())

    def _watch(self) -> None:
        while not self.closing:
            time.sleep(LOOK_SECONDS)
            self._give_up_orphans()

    def _give_up_orphans(self) -> None:
        """Tell billiard which children are gone that have batches.

        Without an event loop one of its threads sees that a child has ended, and another reads that it had begun with a
        batch. If that comes second nobody is told, and the batch would never end.
        """
        pool = self._pool._pool
        if pool is None:  # it was closed
            return
        with self._lock:
            results = [job.result for job in self._jobs.values() if job.result is not None]
        found = [(result, pid) for result in results if not result._worker_lost for pid in result.worker_pids()]
        # Afterwards: whoever has begun is among them. A copy: its own thread takes children out meanwhile.
        children = {child.pid for child in list(pool._pool)}
        for result, pid in found:
            if pid not in children and not result.ready():
                pool.on_job_process_lost(result, pid, None)

    def _apply(self, job: _Job) -> None:
        batch = job.batch
        try:
            # Not apply_async: without an event loop it waits for an idle child, and so would the consuming thread.
            job.result = self._pool.on_apply(
                handle,
                (batch.bus, batch.group, batch.deliveries),
                {},
                waitforslot=False,
                lost_worker_timeout=LOST_SECONDS,
                soft_timeout=batch.limits.soft,
                timeout=batch.limits.hard,
                callback=lambda verdicts: self._finish(job, verdicts),
                error_callback=lambda info, *_args, **_kwargs: self._finish(job, _overran(job, info)),
            )
        except Exception as error:  # it must not reach Celery's loop, which would end the worker
            logger.exception("A batch was not accepted by the pool")
            self._refused(job, error)
        else:
            if job.result is None and not _is_solo(self._pool):
                self._refused(job, BusUnavailableError("the worker's pool takes no work", why="it is closing"))

    def _refused(self, job: _Job, error: Exception) -> None:
        self._finish(job, [postponed(None, error)] * len(job.batch.deliveries))

    def _finish(self, job: _Job, verdicts: object) -> None:
        with self._lock:
            known = self._jobs.pop(job.number, None)
        if known is not None:  # a batch that was submitted twice finishes once
            job.done(job.batch, verdicts if isinstance(verdicts, list) else None)


def _overran(job: _Job, info: Any) -> list[Verdict] | None:
    """Return the verdicts of a batch that was ended by a time limit, or ``None`` when its child died otherwise.

    Celery waits before it gives a dead child up, and the time limit may be over meanwhile.
    """
    kind, batch = getattr(info, "type", None), job.batch
    if kind not in (TimeLimitExceeded, SoftTimeLimitExceeded) or getattr(job.result, "_worker_lost", None):
        return None
    emit("messaging.overran", bus=batch.bus, group=batch.group, messages=len(batch.deliveries))
    if len(batch.deliveries) > 1:
        return [Verdict("alone")] * len(batch.deliveries)
    delivery = batch.deliveries[0]
    found = handlers.find(batch.bus, batch.group, delivery.envelope.alias)
    return [failed(delivery, found, exceeded(found, soft=kind is SoftTimeLimitExceeded))]


def _is_solo(pool: Any) -> bool:
    return type(pool).__module__ == "celery.concurrency.solo"
