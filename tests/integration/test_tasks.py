"""Celery tasks by the outbox, with a live worker that relays and runs them, and processes that die in between."""

from __future__ import annotations

import signal

import pytest

from koan_django.messaging.models import OutboxMessage
from koan_django.testing.faults import environment
from tests.integration.conftest import Live
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import wait_until

pytestmark = pytest.mark.services("rabbitmq", "redis")
#: The worker has no handlers, and says so by its relay alone.
READY = " ready."


def test_tasks_of_a_process_that_is_killed_after_its_commit_run(live: Live, vhost: Vhost) -> None:
    live.use("database://", vhost.url, tasks={"POLL_INTERVAL": 0.02})
    sender = live.run("""
        import os, signal
        from django.db import transaction
        with transaction.atomic():
            for number in range(10):
                tasks.task.delay(number)
        with transaction.atomic():
            tasks.task.delay(99)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    wait_until(lambda: not sender.running, 30, "the sender to be killed")
    assert sender.returncode == -signal.SIGKILL
    assert OutboxMessage.objects.count() == 10
    live.worker(says=READY)
    wait_until(lambda: len(live.effects()) >= 10, 60, "the tasks to run")
    assert live.effects() == dict.fromkeys(range(10), 1)
    wait_until(lambda: not OutboxMessage.objects.exists(), 30, "their publishing to be recorded")


def test_a_relay_that_is_killed_before_it_knows_of_the_confirms_loses_nothing(live: Live, vhost: Vhost) -> None:
    live.use("database://", vhost.url, tasks={"POLL_INTERVAL": 0.02})
    sender = live.run("""
        from django.db import transaction
        with transaction.atomic():
            for number in range(5):
                tasks.task.delay(number)
    """)
    wait_until(lambda: not sender.running, 30, "the sender to end")
    assert sender.returncode == 0, sender.tail()
    first = live.start(variables=environment("messaging.relay.published"))
    wait_until(lambda: not first.running, 60, "the worker to be killed")
    assert OutboxMessage.objects.count() == 5
    live.worker(says=READY)
    wait_until(lambda: not OutboxMessage.objects.exists(), 60, "the tasks to be published again")
    wait_until(lambda: set(live.effects()) == set(range(5)), 60, "all of them to run")


def test_the_result_of_a_task_is_found_by_the_id_that_the_call_returned(live: Live, vhost: Vhost, redis: Redis) -> None:
    live.use("database://", vhost.url, tasks={"POLL_INTERVAL": 0.02}, results=redis.url)
    live.worker(says=READY)
    sender = live.run("""
        from django.db import transaction
        from koan_django.core.context import tenant
        with tenant.use("acme"), transaction.atomic():
            result = tasks.task.delay(1)
        assert result.get(timeout=40) == f"acme {result.id}"
        print("as promised")
    """)
    sender.expect("as promised", timeout=60)
