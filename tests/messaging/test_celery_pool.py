"""Celery's prefork pool without an event loop, when its children die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from billiard.pool import ApplyResult
from celery import Celery
from celery.concurrency.prefork import TaskPool

from koan_django.messaging.buses.base import Batch
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.worker import pool as module
from koan_django.messaging.worker.pool import CeleryPool
from tests.services.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def die(*_batch: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def prefork() -> Iterator[TaskPool]:
    app = Celery("pool", set_as_current=False)
    pool = TaskPool(1, app=app, initargs=(app, "pool@test"))
    pool.start()
    yield pool
    pool.terminate()


def test_a_batch_is_given_up_whose_child_is_gone_before_it_is_known_to_have_begun(
    prefork: TaskPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load the thread that reads that may come after the one that sees children end."""
    ack = ApplyResult._ack

    def late(result: Any, index: int, when: float, pid: int, *more: Any) -> Any:
        wait_until(lambda: pid not in {child.pid for child in prefork._pool._pool}, 20, "the child to be cleaned up")
        return ack(result, index, when, pid, *more)

    monkeypatch.setattr(ApplyResult, "_ack", late)
    monkeypatch.setattr(module, "handle", die)
    told: SimpleQueue[list[Verdict] | None] = SimpleQueue()
    batch = Batch("main", "g", (Delivery(Envelope("1", "a", 1, b"", {}, "a.p"), "main", "g"),))
    pool = CeleryPool(prefork, None)
    assert pool.submit(batch, lambda _batch, verdicts: told.put(verdicts))
    assert told.get(timeout=20) is None
    pool.closing = True
