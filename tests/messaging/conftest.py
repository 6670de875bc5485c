"""Buses for one test, and the broker behind them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from koan_django.messaging.buses import registry
from koan_django.messaging.worker.runner import BusRunner
from koan_django.testing import override_koan
from tests.messaging.shop import ThreadPool
from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

UseBus = Callable[..., Any]


@pytest.fixture
def use_bus() -> Iterator[UseBus]:
    """``use_bus("amqp://…", CONFIRM_TIMEOUT=1)``: the bus ``main`` of this test, with a prefix of its own."""
    with ExitStack() as stack:

        def use(url: str, **options: Any) -> Any:
            usual = {
                "URL": url,
                "PREFIX": f"t{uuid.uuid4().hex[:8]}",
                "POLL_INTERVAL": 0.01,
                "LEASE": 3,
                "RETRY": {"FIRST_DELAY": 0.2, "FACTOR": 1, "MAX_DELAY": 0.2, "MAX_ATTEMPTS": 3, "JITTER": 0},
            }
            stack.enter_context(override_koan(MESSAGING={"BUSES": {"main": usual | options}}))
            return registry.get("main")

        yield use
        registry.reset()


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
    """Stands before the broker."""
    with Proxy.before(vhost.url) as made:
        yield made


@pytest.fixture
def through(proxy: Proxy, vhost: Vhost) -> str:
    """The URL that leads through the proxy."""
    return proxy.url(vhost.url)


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    """A connection of its own to the broker, past the proxy."""
    with wired(vhost.url) as made:
        yield made


@contextmanager
def running(size: int = 2, *, consuming: bool = True) -> Iterator[BusRunner]:
    """Consume the configured buses for the block; everything in flight is settled at its end."""
    pool = ThreadPool(size)
    runner = BusRunner(pool)
    runner.start()
    try:
        if consuming:
            wait_until(lambda: all(each.consuming for each in runner.consumers), 20, "the consumers to consume")
        yield runner
        runner.drain()
        wait_until(lambda: not runner.is_busy, 20, "everything in flight to be settled")
    finally:
        pool.closed = True
        runner.stop()
        pool.shutdown()
