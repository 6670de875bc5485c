"""What people and other programs do to a Redis while messages flow: fill it, delete from it, cut its connections."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from koan_django.messaging import send_many
from koan_django.messaging.models import DeadLetter, OutboxMessage
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_redis_bus import Own, bound, handled, numbers
from tests.services.fixtures import StartProcess
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services("redis")]


@pytest.fixture(name="own")
def own_server(process: StartProcess, tmp_path: Path) -> Iterator[Own]:
    made = Own(process, tmp_path)
    made.start()
    yield made
    made.client.close()


class Fleeting(Exception):
    """Passes."""


def failing_once() -> Callable[[OrderPlaced], None]:
    failed: set[int] = set()

    def work(message: OrderPlaced) -> None:
        if message.number == 0 and not failed:
            failed.add(message.number)
            raise Fleeting("not yet")

    return work


def test_a_server_that_is_full_is_emptied_by_workers_that_start_then_and_retries_are_kept(
    use_bus: UseBus, own: Own
) -> None:
    bus = use_bus(own.url)
    with listening(OrderPlaced, failing_once(), group="billing") as arrived:
        bound()
        send_many([OrderPlaced(number) for number in range(10)])
        own.client.config_set("maxmemory", 1)
        with running():
            wait_until(handled(10), 30, "all of them, the second attempt too")
            assert OrderPlaced(10).send().state == "accepted"
        assert [(each.waiting, each.in_progress) for each in bus.depths()] == [(0, 0)]
    assert numbers(arrived) == [0, *range(10)]
    assert "short of memory" in OutboxMessage.objects.get().last_error


def test_a_key_that_somebody_else_has_taken_is_named_and_no_other_group_gets_copies(use_bus: UseBus, own: Own) -> None:
    bus = use_bus(own.url)
    with listening(OrderPlaced, group="audit") as audit, listening(OrderPlaced, group="billing") as billing:
        bound()
        stream = bus.names.streams("billing")[0]
        own.client.delete(stream)
        own.client.set(stream, "of a stranger")
        for _ in range(2):
            assert OrderPlaced(1).send().state == "accepted"
        assert all(stream in row.last_error for row in OutboxMessage.objects.all())
        assert own.client.xlen(bus.names.streams("audit")[0]) == 0
        with running(consuming=False) as runner:
            wait_until(lambda: stream in runner.consumers[0].error, 20, "the worker to name the key")
            own.client.delete(stream)
            wait_until(lambda: len(billing) == len(audit) == 2, 60, "both groups")


def restart_without_memory(own: Own, folder: Path) -> None:
    own.process.kill()
    shutil.rmtree(folder / "appendonlydir")
    own.start()


@pytest.mark.parametrize("what", ["group", "stream", "all", "scripts", "connections", "sleepers", "memory"])
def test_whatever_somebody_takes_away_while_messages_flow_costs_no_message_that_waits(
    use_bus: UseBus, own: Own, tmp_path: Path, what: str
) -> None:
    bus = use_bus(own.url)
    stream = bus.names.streams("billing")[0]
    deeds: dict[str, Callable[[], Any]] = {
        "group": lambda: own.client.xgroup_destroy(stream, "koan"),
        "stream": lambda: own.client.delete(stream),
        "all": own.client.flushall,
        "scripts": own.client.script_flush,
        "connections": lambda: own.client.client_kill_filter(_type="normal", skipme=True),
        "memory": lambda: restart_without_memory(own, tmp_path),
        "sleepers": lambda: own.client.client_kill_filter(_type="pubsub"),
    }
    with listening(OrderPlaced, group="billing") as arrived, running():
        send_many([OrderPlaced(number) for number in range(20)])
        wait_until(handled(20), 20, "the first messages")
        deeds[what]()

        with transaction.atomic():
            send_many([OrderPlaced(number) for number in range(20, 40)])
        wait_until(handled(40), 60, "the second messages")
    assert numbers(arrived) == list(range(40))
    assert not DeadLetter.objects.exists()
