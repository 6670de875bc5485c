"""One suite for all buses: each test runs with the database, RabbitMQ and memory behind the same code."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Bus
from koan_django.messaging.worker.runner import BusRunner
from koan_django.testing import override_koan
from tests.messaging.shop import ThreadPool
from tests.services.waiting import wait_until

RETRY = {"FIRST_DELAY": 0.3, "FACTOR": 1, "MAX_DELAY": 0.3, "MAX_ATTEMPTS": 3, "JITTER": 0}


class Rig:
    """A bus under test, and the means to consume it."""

    def __init__(self, kind: str, settings: dict[str, Any]) -> None:
        self.kind = kind
        self.settings = settings

    @property
    def bus(self) -> Bus:
        return registry.get("main")

    @contextmanager
    def running(self, size: int = 2) -> Iterator[BusRunner]:
        """Consume for the block; everything in flight is settled at its end."""
        pool = ThreadPool(size)
        runner = BusRunner(pool)
        runner.start()
        try:
            wait_until(lambda: all(each.consuming for each in runner.consumers), 20, "the consumers to consume")
            yield runner
            runner.drain()
            wait_until(lambda: not runner.is_busy, 20, "everything in flight to be settled")
        finally:
            pool.closed = True
            runner.stop()
            pool.shutdown()

    @staticmethod
    def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
        """Wait for ``condition``."""
        wait_until(condition, seconds, what)


KINDS = [
    "database",
    "memory",
    pytest.param("amqp", marks=pytest.mark.services("rabbitmq")),
    pytest.param("redis", marks=pytest.mark.services("redis")),
]


def bus_settings(url: str) -> dict[str, Any]:
    """Return a bus with a prefix of its own and little patience."""
    small = {"PARTITIONS": 4, "DELAY_IN_BROKER": 3} if url.startswith("amqp") else {"PARTITIONS": 4}  # queues take time
    prefix = f"t{uuid.uuid4().hex[:8]}"
    return {"URL": url, "PREFIX": prefix, "POLL_INTERVAL": 0.01, "LEASE": 3, "RETRY": RETRY, **small}


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Rig]:
    """A fresh bus of each kind."""
    server = {"amqp": "vhost", "redis": "redis"}.get(request.param)
    bus = bus_settings(request.getfixturevalue(server).url if server else f"{request.param}://")
    with override_koan(MESSAGING={"BUSES": {"main": bus}}):
        yield Rig(request.param, bus)
        registry.reset()
