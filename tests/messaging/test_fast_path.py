"""What a process has written to the outbox, and publishes itself after the commit."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace

from koan_django.messaging import send_many
from koan_django.messaging.models import MessageEvent, OutboxMessage
from koan_django.messaging.outgoing import handing
from koan_django.messaging.outgoing.sending import wrap
from koan_django.testing.faults import environment
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.test_relay import Relaying, bound, numbers_in
from tests.messaging.wire import Wire
from tests.services.process import Process
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.striking import Striker, tracing
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nobody writes to the database when the test is over."""
    yield
    found = handing._threads.pop(os.getpid(), None)
    if found is not None:
        found.stop(10)


def bus_with(use_bus: UseBus, url: str, **more: Any) -> Any:
    return use_bus(url, FAST_PATH=True, **more)


def send(*numbers: int, key: str = "") -> None:
    with transaction.atomic():
        if key:
            send_many([StockMoved(key, number) for number in numbers], group="stock")
        else:
            send_many([OrderPlaced(number) for number in numbers], group="billing")


def states() -> list[str]:
    return list(OutboxMessage.objects.values_list("state", flat=True))


def is_empty() -> bool:
    return not OutboxMessage.objects.exists()


def test_a_message_leaves_after_its_commit_without_a_relay_and_without_work_for_the_caller(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue, written = wire.queue(bus.names.group("billing")), []
    chunk = bus.publisher._chunk
    bus.publisher._chunk = lambda: (written.append(threading.get_ident()), chunk())[1]
    with listening(OrderPlaced, group="billing"), transaction.atomic(), CaptureQueriesContext(connection) as queries:
        receipt = OrderPlaced(1).send_to("billing")
        assert receipt.state == "accepted"
        assert OutboxMessage.objects.get().state == "handed"
    assert [query["sql"].split()[0] for query in queries][:2] == ["INSERT", "INSERT"]
    wait_until(is_empty, 20, "the message to be published and deleted")
    assert numbers_in(wire, queue) == [1]
    assert written
    assert threading.get_ident() not in written
    kinds = MessageEvent.objects.filter(message_id=receipt.id).order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["sent", "published"]


def test_what_is_rolled_back_is_not_published(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing"):
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            OrderPlaced(1).send_to("billing")
            raise ZeroDivisionError
        with transaction.atomic():
            OrderPlaced(2).send_to("billing")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                OrderPlaced(3).send_to("billing")
                raise ZeroDivisionError
    wait_until(is_empty, 20, "the message to be published")
    assert numbers_in(wire, queue) == [2]


def test_what_has_a_key_or_is_much_is_left_to_the_relays(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = bus_with(use_bus, vhost.url)
    queues = [bound(bus, wire), wire.queue(bus.names.group("billing"))]
    with listening(StockMoved, group="stock"), listening(OrderPlaced, group="billing"):
        send(1, 2, key="a")
        send(*range(handing.MOST + 1))
        with transaction.atomic():
            OrderPlaced(1).send_to("billing", delay=timedelta(hours=1))
    assert set(OutboxMessage.objects.values_list("state", flat=True)) == {"pending"}
    assert [wire.depth(queue) for queue in queues] == [0, 0]


def test_without_the_setting_relays_publish(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"):
        send(1)
    assert OutboxMessage.objects.get().state == "pending"


def test_relays_publish_nothing_of_it_a_second_time(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    with listening(OrderPlaced, group="billing"), Relaying(bus) as relay:
        for number in range(150):
            send(number)
        wait_until(is_empty, 30, "all to be published")
        assert relay.published == 0
    assert sorted(numbers_in(wire, queue)) == list(range(150))


def test_several_threads_hand_over_at_once(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))

    def work(start: int) -> None:
        try:
            for number in range(start, start + 25):
                send(number)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 25, 50, 75)]
    with listening(OrderPlaced, group="billing"):
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        wait_until(is_empty, 30, "all to be published")
    assert sorted(numbers_in(wire, queue)) == list(range(100))


def test_a_caller_that_is_struck_while_it_hands_over_locks_out_nobody() -> None:
    """A time limit may strike behind the commit."""

    def strike() -> None:
        raise TimeoutError

    found, handed = handing.Handing(), ("main", "default", [], list)
    number, struck = 0, True
    while struck:
        number += 1
        striker = Striker(number, strike)
        with suppress(TimeoutError), tracing(striker):
            found.take(handed)
        struck = striker.has_struck
        another = threading.Thread(target=found.take, args=[handed], daemon=True)
        another.start()
        another.join(5)
        assert not another.is_alive(), f"point {number}"
    assert number > 1  # there were points


def test_a_broker_that_is_away_leaves_it_to_the_relay(
    use_bus: UseBus, proxy: Proxy, through: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = bus_with(use_bus, through)
    queue = wire.queue(bus.names.group("billing"))
    proxy.shut()
    with listening(OrderPlaced, group="billing"):
        send(1)
        wait_until(lambda: OutboxMessage.objects.get().state == "pending", 30, "the relays to be given the message")
        assert "cannot be reached" in OutboxMessage.objects.get().last_error
        send(2)
        assert set(OutboxMessage.objects.values_list("state", flat=True)) == {"pending"}  # now it is known before
        proxy.open()
        with Relaying(bus):
            wait_until(is_empty, 30, "both to be published")
    assert numbers_in(wire, queue) == [1, 2]


def test_what_reaches_nobody_is_the_relays_to_park(use_bus: UseBus, vhost: Vhost) -> None:
    bus_with(use_bus, vhost.url)
    with listening(OrderPlaced, group="billing"):  # and no queue
        send(1)
        wait_until(lambda: OutboxMessage.objects.get().state == "pending", 30, "the relays to be given the message")
    assert "no queue" in OutboxMessage.objects.get().last_error


def test_copies_of_a_message_for_two_groups_have_the_same_id_and_each_its_own_end(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    """As when dead letters of two groups are replayed. Only one of them has a queue."""
    bus = bus_with(use_bus, vhost.url)
    queue, envelope = wire.queue(bus.names.group("billing")), wrap(OrderPlaced(1), "main")
    for groups in (("billing", "stock"), ("stock", "billing")):
        with transaction.atomic():
            for group in groups:
                bus.send([replace(envelope, group=group)], None)
        wait_until(lambda: set(states()) == {"pending"}, 30, "the one that reaches nobody to be given to the relays")
        assert [row.group for row in OutboxMessage.objects.all()] == ["stock"]
        OutboxMessage.objects.all().delete()
    assert numbers_in(wire, queue) == [1, 1]


def test_a_transaction_that_took_long_leaves_it_to_the_relay(
    use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relays may have given it up: they go by the time of the insert."""
    monkeypatch.setattr(handing, "LATE_SECONDS", -1)
    bus = bus_with(use_bus, vhost.url)
    monkeypatch.setattr(bus, "begin", lambda envelopes: pytest.fail("it was given to the broker"))
    with listening(OrderPlaced, group="billing"):
        send(1)
        wait_until(lambda: OutboxMessage.objects.get().state == "pending", 30, "the relays to be given the message")
    assert OutboxMessage.objects.get().last_error == ""


def test_a_database_that_fails_behind_a_confirm_makes_a_duplicate_and_loses_nothing(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))

    def fails(*_: Any) -> None:
        raise OperationalError("the disk is full")

    with listening(OrderPlaced, group="billing"):
        with monkeypatch.context() as patch:
            patch.setattr(handing, "_confirmed", fails)
            send(1)
            wait_until(lambda: "cannot be written down" in caplog.text, 30, "the failure")
        assert OutboxMessage.objects.get().state == "handed"
        monkeypatch.setattr(handing, "patience", lambda bus: timedelta(0))
        with Relaying(bus):
            wait_until(is_empty, 30, "a relay to take over")
    assert numbers_in(wire, queue) == [1, 1]


PROGRAM = """
import django, sys
django.setup()
from django.db import transaction
from koan_django.testing import override_koan
from koan_django.testing.faults import arm_from_environment
from tests.messaging.shop import OrderPlaced, listening

arm_from_environment()
bus = {"URL": sys.argv[1], "PREFIX": sys.argv[2], "FAST_PATH": True}
override_koan(MESSAGING={"BUSES": {"main": bus}}).enable()
with listening(OrderPlaced, group="billing"), transaction.atomic():
    OrderPlaced(1).send_to("billing")
"""


def ends(log: Path, url: str, prefix: str, faults: Mapping[str, str]) -> int | None:
    """Have a process send in a transaction and end; return how it did."""
    child = {"DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings"}
    child["KOAN_CHILD_DATABASE"] = str(connection.settings_dict["NAME"])
    words = [sys.executable, "-c", PROGRAM, url, prefix]
    sender = Process("sender", words, log, env={**os.environ, **child, **faults}, cwd=ROOT)
    try:
        return sender.wait(30)
    finally:
        sender.kill()


def test_a_process_that_ends_at_once_has_published(use_bus: UseBus, vhost: Vhost, wire: Wire, tmp_path: Path) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    assert ends(tmp_path / "sender.log", vhost.url, bus.names.prefix, {}) == 0
    assert is_empty()
    assert numbers_in(wire, queue) == [1]


def test_a_process_that_is_killed_behind_its_commit_leaves_the_message_to_a_relay(
    use_bus: UseBus, vhost: Vhost, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = bus_with(use_bus, vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    killed = environment("messaging.handing.committed")
    assert ends(tmp_path / "sender.log", vhost.url, bus.names.prefix, killed) == -signal.SIGKILL
    assert OutboxMessage.objects.get().state == "handed"
    with Relaying(bus) as relay:
        time.sleep(0.5)  # for what must not happen there is no condition to wait for
        assert OutboxMessage.objects.exists()
        monkeypatch.setattr(handing, "patience", lambda options: timedelta(0))
        wait_until(is_empty, 30, "the relay to take over")
        assert relay.published == 1
    assert numbers_in(wire, queue) == [1]
