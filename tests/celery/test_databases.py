"""Tasks of transactions in several databases: each is a row of the one that is named, or is open alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from celery import Celery
from django.db import transaction

from koan_django.messaging.buses import registry
from koan_django.messaging.exceptions import OutboxError
from koan_django.messaging.models import OutboxMessage
from koan_django.messaging.outgoing.relays import Relays
from koan_django.testing import override_koan
from tests.celery.conftest import taken
from tests.celery.test_outbox_task import declare
from tests.messaging.wire import Wire
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "orders"]),
    pytest.mark.database,
    pytest.mark.services("rabbitmq"),
]


@pytest.fixture
def both(orders: str) -> Iterator[str]:
    """The second database, which has an outbox too. To be asked for first: settings are restored in turn."""
    with override_koan(MESSAGING={"OUTBOX_DATABASES": [orders]}):
        yield orders


def tasks(using: str) -> list[str]:
    return list(OutboxMessage.objects.using(using).order_by("id").values_list("message_id", flat=True))


def test_a_task_goes_to_the_database_that_is_named_by_the_call_or_by_the_task(both: str, app: Celery) -> None:
    pack = declare(app)
    with transaction.atomic(), transaction.atomic(using=both):
        with pytest.raises(OutboxError, match="none is named"):
            pack.delay(1)
        assert (tasks("default"), tasks(both)) == ([], [])
        first = pack.apply_async((1,), using=both)
        second = pack.s(2).set(using="default").apply_async()
        pack.using = both
        third = pack.delay(3)
        fourth = pack.apply_async((4,), using="default")
    assert (tasks("default"), tasks(both)) == ([second.id, fourth.id], [first.id, third.id])


def test_tasks_of_both_databases_reach_celery_and_carry_nothing_of_it(both: str, app: Celery, wire: Wire) -> None:
    pack = declare(app, using=both)
    with transaction.atomic(using=both):
        first = pack.delay(1)
    with transaction.atomic():
        second = pack.apply_async((2,), using="default")
    relays = Relays([registry.get("tasks")])
    relays.tend()
    try:
        wait_until(lambda: not tasks("default") and not tasks(both), 30, "both to be published")
    finally:
        relays.stop()
    found = {each.headers["id"]: each for each in taken(wire, 2)}
    assert {key: json.loads(each.body)[0] for key, each in found.items()} == {first.id: [1], second.id: [2]}
    assert not any("using" in each.properties or "using" in each.headers for each in found.values())
    assert pack.apply_async((3,)).id  # no transaction is open in the one that the task names
    assert (tasks("default"), tasks(both)) == ([], [])
