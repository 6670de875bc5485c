"""``django.tasks`` by Celery: what ``enqueue()`` writes and sends, what is refused, what is honestly promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from celery import Celery
from django.core.checks import run_checks
from django.db import transaction
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.test import override_settings
from django.utils import timezone

from koan_django.contrib.django_tasks import records, running
from koan_django.core.exceptions import PermanentError
from koan_django.messaging.buses import registry
from koan_django.messaging.exceptions import OutboxError
from koan_django.messaging.models import OutboxMessage
from koan_django.messaging.outgoing.relay import Relay
from koan_django.testing import override_koan
from tests.celery.conftest import taken
from tests.celery.django6 import jobs
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.services("rabbitmq", "redis"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:redis", "ignore::DeprecationWarning:celery"),
]
BACKEND = "koan_django.contrib.django_tasks.CeleryBackend"


@pytest.fixture(autouse=True)
def tasks() -> Iterator[None]:
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "QUEUES": []}}):
        yield


@pytest.fixture
def kept(celery_app: Callable[..., Celery], vhost: Vhost, redis: Redis) -> Celery:
    """An app whose results are kept."""
    return celery_app(vhost.url, result_backend=redis.url)


def relay() -> None:
    made = Relay(registry.get("tasks"))
    made.start()
    wait_until(lambda: not OutboxMessage.objects.exists(), what="the relay")
    made.stop(20)


def test_a_task_that_is_enqueued_in_a_transaction_is_a_row_of_it(app: Celery, wire: Wire) -> None:
    with transaction.atomic():
        result = jobs.pack.enqueue(1, box="large")
        assert OutboxMessage.objects.get().message_id == result.id
        assert wire.depth("celery") < 1
    assert result.status == TaskResultStatus.READY
    assert result.enqueued_at is not None
    relay()
    [message] = taken(wire, 1)
    path, args, kwargs, backend, _at = json.loads(message.body)[0]
    assert (path, args, kwargs, backend) == ("tests.celery.django6.jobs.pack", [1], {"box": "large"}, "default")
    assert (message.headers["id"], message.headers["task"]) == (result.id, running.NAME)


def test_a_rollback_takes_it_along_and_outside_it_goes_straight(app: Celery, wire: Wire) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.pack.enqueue(1)
        raise ZeroDivisionError
    result = jobs.pack.enqueue(2)
    assert not OutboxMessage.objects.exists()
    assert [each.headers["id"] for each in taken(wire, 1)] == [result.id]


def test_queue_and_time_are_those_of_celery(app: Celery, wire: Wire) -> None:
    at = timezone.now() + timedelta(hours=1)
    jobs.pack.using(queue_name="parcels", run_after=at).enqueue(1)
    [message] = taken(wire, 1, "parcels")
    assert message.headers["eta"] == at.isoformat()


@pytest.mark.parametrize(("most", "priority", "sent"), [(10, 100, 10), (10, 0, 5), (9, -100, 0)])
def test_priorities_are_those_of_celerys_queues_where_they_have_some(
    celery_app: Callable[..., Celery], vhost: Vhost, wire: Wire, most: int, priority: int, sent: int
) -> None:
    celery_app(vhost.url)
    with pytest.raises(InvalidTask, match="does not support setting priority"):
        jobs.pack.using(priority=1)
    celery_app(vhost.url, task_queue_max_priority=most)
    jobs.pack.using(priority=priority).enqueue(1)
    assert [each.properties["priority"] for each in taken(wire, 1)] == [sent]


def test_arguments_that_are_no_json_are_refused_and_nothing_is_written(app: Celery) -> None:
    with transaction.atomic(), pytest.raises(TypeError):
        jobs.pack.enqueue(object())
    assert not OutboxMessage.objects.exists()


def test_without_a_result_backend_no_result_is_promised(app: Celery) -> None:
    assert not task_backends["default"].supports_get_result
    with pytest.raises(NotImplementedError):
        jobs.pack.get_result("x")


def test_a_result_is_known_from_the_call_on_and_others_are_not(kept: Celery) -> None:
    assert task_backends["default"].supports_get_result
    with transaction.atomic():
        result = jobs.pack.enqueue(1, box="large")
    found = jobs.pack.get_result(result.id)
    assert (found.status, found.args, found.kwargs, found.enqueued_at) == (
        "READY",
        [1],
        {"box": "large"},
        result.enqueued_at,
    )
    with pytest.raises(TaskResultDoesNotExist):
        jobs.pack.get_result("nobody")


def test_what_is_no_task_is_not_run(kept: Celery) -> None:
    with pytest.raises(PermanentError, match="no_task is no task"):
        running.run.run("tests.celery.django6.jobs.no_task", [], {}, "default", timezone.now().isoformat())


def test_a_result_backend_that_is_away_costs_the_status_and_not_the_task(
    celery_app: Callable[..., Celery], vhost: Vhost, wire: Wire, free_port: int
) -> None:
    policy = {"retry_policy": {"max_retries": 0}}
    celery_app(vhost.url, result_backend=f"redis://127.0.0.1:{free_port}/0", result_backend_transport_options=policy)
    result = jobs.pack.enqueue(1)
    assert [each.headers["id"] for each in taken(wire, 1)] == [result.id]


def test_a_record_is_read_as_it_was_written(app: Celery) -> None:
    result = records.new(jobs.pack, "x", (1,), {"box": "large"}, "default")
    records.change(
        result, status=TaskResultStatus.SUCCESSFUL, _return_value=[1], worker_ids=["w"], started_at=timezone.now()
    )
    assert records.parse("x", json.loads(json.dumps(records.dump(result)))) == result


def test_the_option_using_names_the_database_of_the_transaction(app: Celery) -> None:
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"using": "elsewhere"}}}):
        assert ids() == []
        with transaction.atomic(), pytest.raises(OutboxError, match="the database 'elsewhere' has no outbox"):
            jobs.pack.enqueue(1)
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"using": "default"}}}):
        with transaction.atomic():
            result = jobs.pack.enqueue(1)
        assert OutboxMessage.objects.get().message_id == result.id


def ids() -> list[str]:
    return [str(each.id) for each in run_checks() if str(each.id).startswith("koan_celery")]


def test_wrong_options_and_a_missing_bus_are_errors_of_check(app: Celery) -> None:
    assert ids() == []
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"queue": "x"}}}):
        assert ids() == ["koan_celery.E003"]
    with override_koan(MESSAGING={"BUSES": {"tasks": {"URL": "database://"}}}):
        assert ids() == ["koan_celery.E004"]
