"""A Celery app for one test. Its broker is RabbitMQ; what waits in the outbox reaches it by the bus ``tasks``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from celery import Celery, _state, signals

from koan_django.celery import _carry
from koan_django.messaging.buses import registry
from koan_django.testing import override_koan
from tests.messaging.wire import Wire, wired
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

if django.VERSION < (6, 0):
    collect_ignore = ["django6"]

BUSES: dict[str, Any] = {"main": {"URL": "database://"}, "tasks": {"URL": "celery://", "POLL_INTERVAL": 0.01}}


@pytest.fixture
def celery_app() -> Iterator[Callable[..., Celery]]:
    """``celery_app(url, task_serializer="json")``: the current app of this test."""
    before = _state.default_app, _state.get_current_app()
    made: list[Celery] = []

    def make(url: str, **conf: Any) -> Celery:
        app = Celery(f"test-{uuid.uuid4().hex}", broker=url, set_as_current=True)
        app.conf.update(task_ignore_result=True, broker_connection_timeout=2, **conf)
        app.set_default()
        made.append(app)
        return app

    signals.before_task_publish.connect(_carry, dispatch_uid="tests.carry")
    with override_koan(MESSAGING={"BUSES": BUSES}):
        yield make
        registry.reset()
    signals.before_task_publish.disconnect(dispatch_uid="tests.carry")
    for app in made:
        app.close()
    _state.default_app = before[0]
    _state._set_current_app(before[1])


@pytest.fixture
def app(celery_app: Callable[..., Celery], vhost: Vhost) -> Celery:
    return celery_app(vhost.url)


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    """A connection of its own to the broker."""
    with wired(vhost.url) as made:
        yield made


def taken(wire: Wire, count: int, queue: str = "celery") -> list[Any]:
    """Wait until ``count`` messages are in a queue, and take them: Celery by itself asks for no confirm."""
    wait_until(lambda: wire.depth(queue) >= count, what=f"{count} tasks")
    return wire.take(queue)
