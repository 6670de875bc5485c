"""Tasks of Django 6, enqueued in transactions and run by a live Celery worker."""

from __future__ import annotations

import signal

import pytest

from koan_django.messaging.models import OutboxMessage
from tests.integration.conftest import Live
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import wait_until

pytestmark = pytest.mark.services("rabbitmq", "redis")


def test_tasks_of_a_process_that_is_killed_after_its_commit_run(live: Live, vhost: Vhost) -> None:
    live.use("database://", vhost.url, tasks={"POLL_INTERVAL": 0.02})
    sender = live.run("""
        import os, signal
        from django.db import transaction
        from tests.integration.project import jobs
        with transaction.atomic():
            for number in range(5):
                jobs.work.enqueue(number)
        with transaction.atomic():
            jobs.work.enqueue(99)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    wait_until(lambda: not sender.running, 30, "the sender to be killed")
    assert sender.returncode == -signal.SIGKILL, sender.tail()
    assert OutboxMessage.objects.count() == 5
    live.worker(says=" ready.")
    wait_until(lambda: len(live.effects()) >= 5, 60, "the tasks to run")
    assert live.effects() == dict.fromkeys(range(5), 1)


def test_results_tell_how_a_task_ended(live: Live, vhost: Vhost, redis: Redis) -> None:
    live.use("database://", vhost.url, tasks={"POLL_INTERVAL": 0.02}, results=redis.url)
    worker = live.worker(says=" ready.")
    sender = live.run("""
        import time
        from django.db import transaction
        from koan_django.core.context import tenant
        from tests.integration.project import jobs

        def finished(result):
            while not result.is_finished:
                time.sleep(0.05)
                result.refresh()
            return result

        with tenant.use("acme"), transaction.atomic():
            results = [jobs.work.enqueue(1), jobs.wait.enqueue(0.01), jobs.fail.enqueue()]
        worked, waited, failed = map(finished, results)
        assert worked.return_value == f"acme {worked.id}", worked
        assert worked.attempts == 1 and worked.started_at <= worked.finished_at
        assert waited.return_value == 0.01
        assert failed.status == "FAILED" and failed.errors[0].exception_class is ValueError
        assert "not like this" in failed.errors[0].traceback
        print("as promised")
    """)
    sender.expect("as promised", timeout=90)
    assert "ValueError" in worker.output  # Celery knows of the failure too
