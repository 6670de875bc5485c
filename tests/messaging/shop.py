"""Messages and handlers of a shop, for the tests of messaging."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from koan_django.messaging import IdempotencyKey, Message, PartitionKey, Sensitive, handlers
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.handlers import handler
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.handling.verdicts import Verdict


class OrderPlaced(Message):
    number: int
    note: str = ""

    class Meta:
        alias = "order.placed"


class OrderPaid(Message):
    number: IdempotencyKey[int]
    amount: int = 0

    class Meta:
        alias = "order.paid"


class StockMoved(Message):
    sku: PartitionKey[str]
    count: int
    supplier_token: Sensitive[str] = ""

    class Meta:
        alias = "stock.moved"


@contextmanager
def listening(message: Any, function: Callable[..., Any] | None = None, **options: Any) -> Iterator[list[Any]]:
    """Handle ``message`` for the block; yield what arrived, in order. ``function`` runs after it was noted."""
    arrived: list[Any] = []

    def receive(value: Any, context: Any) -> None:
        arrived.append((value, context))
        if function is not None:
            function(value)

    receive.__qualname__ = f"receive_{id(arrived)}"
    name = options.pop("name", receive.__qualname__)
    handler(message, name=name, **options)(receive)
    try:
        yield arrived
    finally:
        handlers.forget(name)


class ThreadPool:
    """Runs batches on threads of this process, as Celery's thread pool does."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.closed = False
        self._threads = ThreadPoolExecutor(size)
        self._lock = threading.Lock()

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        if self.closed:
            return False
        self._threads.submit(self._run, batch, done)
        return True

    def _run(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> None:
        from django.db import connections

        try:
            done(batch, handle(batch.bus, batch.group, batch.deliveries))
        finally:
            connections.close_all()

    def shutdown(self) -> None:
        self.closed = True
        self._threads.shutdown(wait=True)
