"""Two brokers in a list, of which the first goes away: what becomes of order, delays, topology, pauses and depths."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from koan_django.core import facts
from koan_django.core.circuits import BreakerPolicy
from koan_django.messaging import examinations, send_many
from koan_django.messaging.buses import failover
from koan_django.messaging.buses.failover import FailoverBus
from koan_django.messaging.control import pausing
from koan_django.messaging.models import DeadLetter, OutboxMessage, TopologyObject
from koan_django.messaging.statistics.status import status
from koan_django.messaging.worker.runner import BusRunner
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.test_failover import finding, impatient, is_healthy  # noqa: F401  # a fixture
from tests.messaging.test_pauses import noticing
from tests.messaging.test_topology import run
from tests.messaging.wire import wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]
KEYS = [f"sku-{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a broker that was left alone again soon."""
    policy = replace(failover._POLICY, open_for=timedelta(seconds=0.5), max_open=timedelta(seconds=1))
    monkeypatch.setattr(failover, "_POLICY", policy)


@dataclass(frozen=True)
class Outage:
    """How the first broker goes away, and comes back."""

    begin: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture
def first(own_rabbitmq: RabbitMQ) -> Iterator[Vhost]:
    """A virtual host on a broker of its own, which may be killed."""
    with own_rabbitmq.vhost() as made:
        yield made


@pytest.fixture
def before(first: Vhost) -> Iterator[Proxy]:
    """Stands before the first broker."""
    with Proxy.before(first.url) as made:
        yield made


@pytest.fixture
def use_both(use_bus: UseBus, vhost: Vhost) -> Callable[..., FailoverBus]:
    """The bus ``main`` on the broker of a URL and on that of the run."""
    return lambda url, **options: use_bus(url, FAILOVER=[vhost.url], PARTITIONS=4, **options)


def on(bus: FailoverBus, label: str) -> bool:
    return bus.current.label == label


def ready(runner: BusRunner) -> None:
    wait_until(lambda: is_healthy(runner), 60, "both brokers to be consumed")
    wait_until(lambda: all(len(each.lines) == 4 for each in runner.consumers), 30, "all partitions of both")


@pytest.fixture(params=["cut", pytest.param("killed", marks=pytest.mark.long)])
def outage(request: pytest.FixtureRequest, own_rabbitmq: RabbitMQ, before: Proxy) -> Outage:
    """Takes the first broker away and brings it back: the way to it, or the broker itself."""
    if request.param == "killed":
        return Outage(own_rabbitmq.kill, own_rabbitmq.revive)
    return Outage(lambda: (before.shut(), before.cut()), before.open)


def test_each_broker_keeps_its_keys_in_order_and_hands_out_what_it_delayed_when_it_is_back(
    use_both: Callable[..., FailoverBus], before: Proxy, first: Vhost, outage: Outage
) -> None:
    """The first goes away with messages of each key and delayed ones on it; none is lost."""
    bus = use_both(before.url(first.url))
    eras: dict[int, str] = {}
    sent = 0

    def send(count: int) -> bool:
        nonlocal sent
        receipts = send_many([StockMoved(KEYS[n % len(KEYS)], n) for n in range(sent, sent + count)])
        eras.update(dict.fromkeys(range(sent, sent + count), bus.current.label))
        sent += count
        return {receipt.state for receipt in receipts} == {"published"}

    with (
        listening(StockMoved, lambda _: time.sleep(0.01), group="stock", name="stock.move") as moved,
        listening(OrderPlaced, group="billing") as placed,
        running() as runner,
    ):
        ready(runner)
        assert send(60)
        delayed = [OrderPlaced(number).send(delay=timedelta(seconds=2)) for number in range(5)]
        assert {receipt.state for receipt in delayed} == {"published"}
        outage.begin()
        try:
            wait_until(lambda: send(6) and on(bus, "main.failover-1"), 30, "the second broker to take messages")
            assert send(60)
            second = [OrderPlaced(number).send(delay=timedelta(seconds=2)) for number in range(5, 10)]
            assert {receipt.state for receipt in second} == {"published"}
            wait_until(lambda: len(placed) == 5, 30, "what the second broker delays")
            assert {message.number for message, _ in placed} == set(range(5, 10))  # the others wait on the first
        finally:
            outage.end()
        wait_until(lambda: finding(runner).status == "healthy", 60, "the return to the first broker")
        assert send(60)
        assert on(bus, "main.primary")
        wait_until(lambda: len({m.number for m, _ in placed}) == 10, 30, "what the first broker delayed")
        wait_until(lambda: len({m.count for m, _ in moved}) >= sent, 60, "every message with a key")
    handled = list(dict.fromkeys(message.count for message, _ in moved))
    assert sorted(handled) == list(range(sent))
    for key in range(len(KEYS)):
        for label in set(eras.values()):
            mine = [number for number in handled if number % len(KEYS) == key and eras[number] == label]
            assert mine == sorted(mine), f"{KEYS[key]} on {label}"
    assert not DeadLetter.objects.exists()
    assert not OutboxMessage.objects.exists()


def test_what_waits_on_a_broker_that_is_away_comes_after_later_messages_of_its_key(
    use_both: Callable[..., FailoverBus], before: Proxy, first: Vhost, vhost: Vhost
) -> None:
    """What the guarantees do not promise: order across a switch."""
    bus = use_both(before.url(first.url))
    with (
        listening(StockMoved, group="stock", name="stock.move") as moved,
        noticing() as notice,
        running() as runner,
    ):
        ready(runner)
        pausing.pause("stock.move")
        notice("held", 2)
        send_many([StockMoved("sku", 1), StockMoved("sku", 2)])
        before.shut()
        before.cut()
        wait_until(lambda: finding(runner).status == "degraded", 30, "the first broker to be missed")
        wait_until(lambda: StockMoved("sku", 3).send().state == "published" and on(bus, "main.failover-1"), 30, "it")
        pausing.resume("stock.move")
        wait_until(lambda: 3 in {message.count for message, _ in moved}, 30, "the later message")
        assert {message.count for message, _ in moved} == {3}
        before.open()
        wait_until(lambda: len({message.count for message, _ in moved}) == 3, 60, "the earlier ones")
    assert list(dict.fromkeys(message.count for message, _ in moved)) == [3, 1, 2]


def test_a_pause_holds_on_the_standby_and_on_the_first_broker_when_it_is_back(
    use_both: Callable[..., FailoverBus], before: Proxy, first: Vhost
) -> None:
    bus = use_both(before.url(first.url))
    with (
        listening(StockMoved, group="stock", name="stock.move") as moved,
        noticing() as notice,
        running() as runner,
    ):
        ready(runner)
        pausing.pause("stock.move", "wrong numbers")
        notice("held", 2)
        send_many([StockMoved(key, 1) for key in KEYS])
        before.shut()
        before.cut()
        wait_until(lambda: finding(runner).status == "degraded", 30, "the first broker to be missed")
        facts.publish()
        stage = next(each for each in examinations.stages() if each.name == "stage.main")
        assert stage.status == "degraded"  # the other is live
        assert "main.primary is waiting since" in stage.message
        wait_until(lambda: StockMoved("x", 2).send().state == "published" and on(bus, "main.failover-1"), 30, "it")
        assert {receipt.state for receipt in send_many([StockMoved(key, 2) for key in KEYS])} == {"published"}
        before.open()
        wait_until(lambda: finding(runner).status == "healthy", 60, "the return to the first broker")
        assert {receipt.state for receipt in send_many([StockMoved(key, 3) for key in KEYS])} == {"published"}
        time.sleep(1)  # long enough for what is not held
        assert moved == []
        assert [each.finding().data["held"] for each in runner.consumers] == [["stock.move"]] * 2
        pausing.resume("stock.move")
        expected = {(key, count) for key in KEYS for count in (1, 2, 3)}
        wait_until(lambda: {(m.sku, m.count) for m, _ in moved} >= expected, 30, "all that waited on both brokers")
    assert not DeadLetter.objects.exists()


def test_an_open_breaker_of_a_handler_holds_on_both_brokers_and_one_probe_of_all_tries(
    use_both: Callable[..., FailoverBus], before: Proxy, first: Vhost
) -> None:
    bus = use_both(before.url(first.url))
    policy = BreakerPolicy(failures=2, open_for=timedelta(seconds=2), max_open=timedelta(seconds=2))
    broken, tried = threading.Event(), list[int]()
    broken.set()

    def charge(message: OrderPlaced) -> None:
        tried.append(message.number)
        if broken.is_set():
            raise OSError("the service is away")

    charging = {"group": "billing", "name": "billing.charge", "breaker": policy, "max_attempts": 20}
    with listening(OrderPlaced, charge, **charging), noticing() as notice, running() as runner:
        wait_until(lambda: is_healthy(runner), 60, "both brokers to be consumed")
        send_many([OrderPlaced(number) for number in range(2)])
        notice("held", 2)  # both consumers
        before.shut()
        before.cut()
        wait_until(lambda: OrderPlaced(2).send().state == "published" and on(bus, "main.failover-1"), 30, "the second")
        send_many([OrderPlaced(number) for number in range(3, 20)])
        before.open()
        wait_until(lambda: finding(runner).status == "healthy", 60, "the return to the first broker")
        before_probes, began = len(tried), time.monotonic()
        time.sleep(2.5)
        assert len(tried) - before_probes <= (time.monotonic() - began) / 2 + 1  # one for each two seconds
        broken.clear()
        wait_until(lambda: set(tried) == set(range(20)), 60, "all of both brokers")
    assert not DeadLetter.objects.exists()


def test_koan_topology_plans_applies_and_verifies_each_broker_by_name(
    use_bus: UseBus, first: Vhost, vhost: Vhost
) -> None:
    with Proxy.before(first.broker.management_url) as api:
        bus = use_bus(
            first.url,
            FAILOVER=[vhost.url],
            MANAGEMENT=api.url(first.broker.management_url),
            FAILOVER_MANAGEMENT=[vhost.broker.management_url],
        )
        queue = bus.brokers[0].names.group("billing")
        with listening(OrderPlaced, group="billing"):
            code, text = run("plan")
            assert code == 2
            assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == [
                "main.primary",
                "main.failover-1",
            ]
            assert "guest" not in text
            code, text = run("apply")
            assert code == 0
            assert f"main.primary  made queue {queue}" in text
            assert f"main.failover-1  made queue {queue}" in text
            assert {queue} <= first.queues().keys() & vhost.queues().keys()
            assert TopologyObject.objects.filter(name=queue, kind="queue").values("broker").distinct().count() == 2
            assert run("verify") == (0, "")
            with wired(vhost.url) as wire:
                wire.channel.queue_delete(queue)
            code, text = run("verify")
            assert (code, text.split()[0]) == (2, "main.failover-1")
            assert run("verify", "--bus", "main.primary") == (0, "")
            assert json.loads(run("plan", "--format", "json")[1])[1]["label"] == "main.failover-1"
            api.shut()
            api.cut()
            code, text = run("apply")
            assert code == 1
            assert f"127.0.0.1:{api.port}" in text  # which of them did not tell
            assert queue not in vhost.queues()  # all of them, or none
            assert run("apply", "--bus", "main.failover-1")[0] == 0
            assert run("verify", "--bus", "main.failover-1") == (0, "")
            told = {each.name: each.status for each in examinations.topology()}
            assert told == {"topology.main.primary": "unknown", "topology.main.failover-1": "healthy"}


def test_the_depth_of_a_group_is_that_of_all_brokers_and_one_that_is_away_is_noted(
    use_both: Callable[..., FailoverBus], before: Proxy, first: Vhost
) -> None:
    bus = use_both(before.url(first.url))
    with listening(StockMoved, group="stock", name="stock.move"):
        with running() as runner:
            ready(runner)
        send_many([StockMoved(key, 1) for key in KEYS])
        before.shut()
        before.cut()
        wait_until(lambda: StockMoved("x", 2).send().state == "published" and on(bus, "main.failover-1"), 30, "it")
        [depth] = bus.depths()
        assert (depth.waiting, dict(depth.sections)) == (1, {"primary": 0, "failover-1": 1})
        assert depth.note.startswith("primary: ")
        assert any("main/stock: primary: " in trouble for trouble in status().troubles)
        before.open()
        wait_until(lambda: not bus.depths()[0].note, 30, "the first broker to be asked again")
        [depth] = bus.depths()
        assert (depth.waiting, dict(depth.sections)) == (7, {"primary": 6, "failover-1": 1})
