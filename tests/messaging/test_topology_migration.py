"""A queue is made anew on a real broker with what it holds, and whoever is killed meanwhile loses nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from amqp.basic_message import Message

from koan_django.core import faults
from koan_django.messaging.exceptions import TopologyError
from koan_django.messaging.models import TopologyObject
from koan_django.messaging.provisioning.migrating import migrate
from koan_django.messaging.provisioning.plans import MIGRATING
from koan_django.messaging.provisioning.targets import Target, targets
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_topology import run
from tests.messaging.wire import Wire
from tests.services import wait_until
from tests.services.rabbitmq import Vhost

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bus(use_bus: UseBus, vhost: Vhost) -> Any:
    return use_bus(vhost.url, MANAGEMENT=vhost.broker.management_url)


@pytest.fixture
def classic(bus: Any, wire: Wire) -> str:
    """A classic queue with 250 messages where a quorum queue is wanted, and a stranger's binding."""
    name: str = wire.queue(bus.names.group("billing"))
    wire.channel.exchange_declare(bus.names.exchange, "topic", durable=True, auto_delete=False)
    wire.channel.exchange_declare("theirs", "topic", durable=True, auto_delete=False)
    wire.channel.queue_bind(name, bus.names.exchange, "order.placed.*")
    wire.channel.queue_bind(name, "theirs", "x")
    for number in range(250):
        wire.publish(name, str(number).encode(), message_id=f"m{number}", application_headers={"n": number})
    wait_until(lambda: wire.depth(name) == 250, 30, "the messages to be there")
    return name


def target() -> Target:
    (found,) = targets()
    return found


def bodies(messages: list[Any]) -> list[bytes]:
    return [bytes(each.body) if not isinstance(each.body, str) else each.body.encode() for each in messages]


def test_a_classic_queue_becomes_a_quorum_queue_with_all_it_holds_in_order(
    bus: Any, classic: str, wire: Wire, vhost: Vhost
) -> None:
    with listening(OrderPlaced, group="billing"):
        run("apply")
        code, text = run("migrate", classic, "--adopt")
        assert code == 0, text
        assert f"nothing of {classic} is handled until this ends" in text
        assert "250 messages were moved away and 250 back" in text
        assert not [change for change in target().plan().changes if change.counts]
        assert run("migrate", classic)[0] == 0  # nothing to do
    found = target().inspect()
    assert found.queues[classic].type == "quorum"
    assert classic + MIGRATING not in found.queues
    assert ("theirs", "x") in {(each.source, each.key) for each in found.bindings if each.destination == classic}
    messages = wire.take(classic)
    assert bodies(messages) == [str(number).encode() for number in range(250)]
    assert messages[7].properties["application_headers"]["n"] == 7
    assert messages[7].properties["message_id"] == "m7"
    assert TopologyObject.objects.filter(kind="queue", name=classic).exists()
    assert not TopologyObject.objects.filter(kind="binding", source="theirs").exists()


@pytest.mark.parametrize(
    ("point", "passes"),
    [
        pytest.param("messaging.move.before_publish", 2, id="with-messages-taken", marks=pytest.mark.long),
        pytest.param("messaging.move.before_ack", 2, id="confirmed-and-not-acknowledged"),
        pytest.param("messaging.migrate.after_switch", 1, id="switched-away", marks=pytest.mark.long),
        pytest.param("messaging.migrate.after_delete", 1, id="without-the-queue", marks=pytest.mark.long),
        pytest.param("messaging.move.before_ack", 5, id="on-the-way-back", marks=pytest.mark.long),
        pytest.param("messaging.migrate.before_end", 1, id="switched-back", marks=pytest.mark.long),
    ],
)
def test_whoever_is_killed_in_between_loses_nothing_and_the_next_run_ends_it(
    bus: Any, classic: str, wire: Wire, point: str, passes: int
) -> None:
    with listening(OrderPlaced, group="billing"):
        run("apply")
        killed_at(point, passes, lambda: migrate(target(), classic, adopt=True))
        assert run("verify")[0] == 2
        returned: list[Any] = []
        wire.channel.events["basic_return"].add(lambda *answer: returned.append(answer))
        wire.channel.basic_publish(Message(b"late"), bus.names.exchange, "order.placed.p", mandatory=True)
        done = migrate(target(), classic, adopt=True)
        assert done.is_done
        assert not [change for change in target().plan().changes if change.counts]
    found = target().inspect()
    assert found.queues[classic].type == "quorum"
    assert classic + MIGRATING not in found.queues
    assert not returned
    wait_until(lambda: wire.depth(classic) >= 251, 30, "all to be there")
    assert set(bodies(wire.take(classic))) == {b"late", *(str(number).encode() for number in range(250))}


def killed_at(point: str, passes: int, work: Callable[[], object]) -> None:
    """Do ``work`` in a child that is killed by SIGKILL at the n-th pass of a point."""
    pid = os.fork()
    if pid == 0:
        left = [passes]

        def die() -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            faults.arm(point, die)
            work()
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"


def test_a_queue_that_somebody_consumes_is_left_alone(bus: Any, classic: str, wire: Wire) -> None:
    wire.channel.basic_consume(classic, callback=lambda message: None)
    with listening(OrderPlaced, group="billing"):
        code, text = run("migrate", classic, "--adopt")
        assert code == 1
        assert "1 consumer receives from the queue" in text
        assert target().inspect().queues[classic].type == "classic"
        assert classic + MIGRATING not in target().inspect().queues


def test_a_queue_that_is_not_ours_is_left_alone_unless_it_is_said_to_be(bus: Any, classic: str, wire: Wire) -> None:
    with listening(OrderPlaced, group="billing"), pytest.raises(TopologyError, match="not on record as ours"):
        migrate(target(), classic)
    assert wire.depth(classic) == 250


def test_a_queue_that_nobody_wants_is_no_migration(bus: Any) -> None:
    with listening(OrderPlaced, group="billing"), pytest.raises(TopologyError, match="needs no queue 'nonsense'"):
        migrate(target(), "nonsense")


def test_another_limit_is_a_migration_too_and_workers_go_on_after_it(bus: Any, wire: Wire) -> None:
    name = wire.queue(bus.names.group("billing"), **{"x-queue-type": "quorum", "x-delivery-limit": 3})
    with listening(OrderPlaced, group="billing") as arrived:
        run("apply")
        OrderPlaced(1).send()
        done = migrate(target(), name, adopt=True)
        assert (done.away, done.back) == (1, 1)
        with running():
            wait_until(lambda: len(arrived) == 1, 30, "the message to be handled")
    assert target().inspect().queues[name].arguments["x-delivery-limit"] == 100
