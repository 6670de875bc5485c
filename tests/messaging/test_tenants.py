"""Tenants with queues, lanes or a virtual host of their own, on a real broker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from koan_django.core.context import tenant
from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp.names import Names
from koan_django.messaging.buses.tenants import TenantsBus
from koan_django.messaging.checks import check_buses
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.examinations import buses
from koan_django.messaging.exceptions import CapabilityError
from koan_django.messaging.handling.fairness import DividedPool
from koan_django.messaging.models import DeadLetter, OutboxMessage
from koan_django.messaging.outgoing.sending import redeliver, wrap
from koan_django.messaging.provisioning.targets import targets
from koan_django.messaging.routing import partition_of
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

services = pytest.mark.services
stored = pytest.mark.django_db(transaction=True)


def send(name: str | None, count: int = 1, first: int = 0, **options: Any) -> list[Any]:
    """Send orders in the name of a tenant."""
    with tenant.use(name):
        return send_many([OrderPlaced(number) for number in range(first, first + count)], **options)


def depths(wire: Wire, names: Names, *sections: str, group: str = "billing") -> list[int]:
    return [wire.depth(Names(names.prefix, section).group(group)) for section in sections]


@pytest.fixture
def declared(use_bus: UseBus) -> Callable[..., Any]:
    """Make a bus whose queues stand because a worker was there once."""

    def make(url: str, **options: Any) -> Any:
        bus = use_bus(url, **options)
        with running():
            return bus

    return make


# queues of their own


@services
@stored
def test_messages_go_to_the_queues_of_their_tenant_and_all_others_share(
    declared: Callable[..., Any], vhost: Vhost, wire: Wire
) -> None:
    with listening(OrderPlaced, group="billing"):
        bus = declared(vhost.url, TENANTS={"acme": "queues", "globex": "queues"})
        for name, count in (("acme", 3), ("globex", 2), ("unknown", 4), (None, 1)):
            assert {receipt.state for receipt in send(name, count)} == {"published"}
        assert depths(wire, bus.names, "", "t.acme", "t.globex") == [5, 3, 2]
        send("acme", group="billing")  # to one group only
        assert depths(wire, bus.names, "", "t.acme", "t.globex") == [5, 4, 2]
        (depth,) = bus.depths()
        assert (depth.waiting, dict(depth.sections)) == (11, {"t.acme": 4, "t.globex": 2})
        assert str(depth) == "11 waiting, 0 consumers, 4 in t.acme, 2 in t.globex"


@services
@stored
def test_every_tenant_is_handled_in_its_own_name(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url, TENANTS={"acme": "queues"}, TENANT_LANES=2)
    with listening(OrderPlaced, group="billing") as arrived, running():
        for name in ("acme", "globex", "initech", None):
            send(name, 5)
        wait_until(lambda: len(arrived) == 20, 30, "all to be handled")
        wait_until(lambda: sum(depths(wire, bus.names, "", "t.acme", "l.0", "l.1")) == 0, 30, "the queues to be empty")
    assert Counter(context.tenant for _, context in arrived) == {"acme": 5, "globex": 5, "initech": 5, "": 5}


@services
@stored
def test_a_retry_and_a_dead_letter_stay_with_their_tenant(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url, TENANTS={"acme": "queues"})
    seen: list[str] = []

    def fail(message: OrderPlaced) -> None:
        seen.append(tenant.current() or "")
        raise RuntimeError("not yet")

    with listening(OrderPlaced, fail, group="billing"), running():
        send("acme")
        wait_until(DeadLetter.objects.exists, 30, "the dead letter")
    assert seen == ["acme"] * 3
    dead = DeadLetter.objects.get()
    assert (dead.group, dead.tenant, dead.attempt) == ("billing", "acme", 3)
    assert depths(wire, bus.names, "", "t.acme") == [0, 0]


@services
@stored
def test_a_replay_goes_to_the_queue_of_the_tenant(declared: Callable[..., Any], vhost: Vhost, wire: Wire) -> None:
    with listening(OrderPlaced, group="billing"):
        bus = declared(vhost.url, TENANTS={"acme": "queues"})
        with tenant.use("acme"):
            envelope = wrap(OrderPlaced(1), "main")
        redeliver("main", envelope, "billing")
        assert depths(wire, bus.names, "", "t.acme") == [0, 1]


@services
@stored
def test_a_delay_of_a_tenant_waits_in_the_database_and_comes_to_its_queue(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url, TENANTS={"acme": "queues"})
    with listening(OrderPlaced, group="billing") as arrived, running():
        assert send("acme", delay=timedelta(seconds=1))[0].state == "accepted"
        assert send("globex", delay=timedelta(seconds=1))[0].state == "published"
        assert OutboxMessage.objects.count() == 1
        assert sum(depths(wire, bus.names, "", "t.acme")) == 0
        wait_until(lambda: len(arrived) == 2, 30, "both to be handled")
    assert sorted(context.tenant for _, context in arrived) == ["acme", "globex"]


@services
@stored
def test_an_ordered_group_has_partitions_for_each_tenant_and_keeps_their_order(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url, TENANTS={"acme": "queues"}, PARTITIONS=2)
    with listening(StockMoved, group="stock") as arrived, running():
        for count in range(10):
            for name in ("acme", "globex"):
                with tenant.use(name):
                    send_many([StockMoved(sku=sku, count=count) for sku in ("a", "b")])
                    StockMoved(sku="c", count=count).send_to("stock")
        wait_until(lambda: len(arrived) == 60, 60, "all to be handled")
    for name in ("acme", "globex"):
        for sku in ("a", "b", "c"):
            counts = [each.count for each, context in arrived if (context.tenant, each.sku) == (name, sku)]
            assert counts == list(range(10))
    own = Names(bus.names.prefix, "t.acme")
    assert [wire.depth(own.partition("stock", number)) for number in (0, 1)] == [0, 0]


# lanes


def test_lanes_spread_tenants_the_same_everywhere_and_named_ones_are_in_none() -> None:
    options = BusOptions(url="amqp://broker/", tenants={"acme": "queues"}, tenant_lanes=4)
    assert options.sections == ("t.acme", "l.0", "l.1", "l.2", "l.3")
    assert options.section_of("acme") == "t.acme"
    assert options.section_of("") == ""
    assert options.section_of("globex") == f"l.{partition_of('globex', 4)}" == "l.2"
    assert {options.section_of(f"tenant-{number}") for number in range(100)} == {"l.0", "l.1", "l.2", "l.3"}


@pytest.mark.parametrize("name", ["../x", "t.acme", "acme.t", "#", "*", "l.0", "x" * 300, "ümlaut", "a\nb"])
def test_a_name_that_a_stranger_made_up_only_chooses_among_what_is_configured(name: str) -> None:
    options = BusOptions(url="amqp://broker/", tenants={"acme": "queues"})
    assert options.section_of(name) == ""
    laned = BusOptions(url="amqp://broker/", tenants={"acme": "queues"}, tenant_lanes=3)
    assert laned.section_of(name) in {"l.0", "l.1", "l.2"}


def test_no_two_queues_have_the_same_name() -> None:
    tenants = ["dead", "p1", "t", "l", "0", "to"]
    sections = ["", *(f"t.{name}" for name in tenants), "l.0", "l.1"]
    groups = ["billing", "t", "l", "dead", "to", "p1"]
    every = [Names("koan", section) for section in sections]
    queues = [each.group(group) for each in every for group in groups]
    queues += [each.partition(group, number) for each in every for group in groups for number in range(3)]
    queues += [Names("koan").dead(group) for group in groups]
    exchanges = [name for each in every for name in (each.exchange, each.direct)]
    assert len(queues) == len(set(queues))
    assert len(exchanges) == len(set(exchanges))


# a virtual host of their own


@pytest.fixture
def own(rabbitmq: RabbitMQ) -> Iterator[Proxy]:
    """Stands before the virtual host of a tenant."""
    with ExitStack() as stack:
        other = stack.enter_context(rabbitmq.vhost())
        yield stack.enter_context(Proxy.before(other.url))


@services
@stored
def test_a_tenant_has_its_own_virtual_host_with_the_same_names(
    use_bus: UseBus, vhost: Vhost, rabbitmq: RabbitMQ
) -> None:
    with rabbitmq.vhost() as other:
        bus = use_bus(vhost.url, TENANTS={"globex": other.url, "acme": "queues"})
        assert isinstance(bus, TenantsBus)
        names = bus.shared.names
        with listening(OrderPlaced, group="billing") as arrived:
            with running() as runner:
                assert [each.bus.label for each in runner.consumers] == ["main", "main.t.acme", "main.globex"]
                for name in ("globex", "acme", None):
                    send(name, 3)
                wait_until(lambda: len(arrived) == 9, 30, "all to be handled")
            receipts = send("globex", 2) + send("initech", 4)
            assert {receipt.state for receipt in receipts} == {"published"}
            with wired(vhost.url) as one, wired(other.url) as two:
                assert depths(one, names, "", "t.acme") == [4, 0]
                assert depths(two, names, "", "t.acme") == [2, -1]
            (depth,) = bus.depths()
            assert (depth.waiting, dict(depth.sections)) == (6, {"t.acme": 0, "globex": 2})
            assert [(each.bus, each.url) for each in targets()] == [("main", vhost.url), ("main", other.url)]
            assert [each.name for each in buses()] == ["bus.main", "bus.main.globex"]
            shared = {queue.name for queue in targets()[0].wanted.queues}
            assert names.group("billing") in shared
            assert Names(names.prefix, "t.acme").group("billing") in shared
    assert Counter(context.tenant for _, context in arrived) == {"globex": 3, "acme": 3, "": 3}


@services
@stored
def test_a_tenants_broker_that_is_away_keeps_no_other_waiting_and_loses_nothing(
    use_bus: UseBus, vhost: Vhost, own: Proxy, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koan_django.messaging.buses.amqp.publisher.MAX_BACKOFF_SECONDS", 0.3)
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MAX_BACKOFF_SECONDS", 0.3)
    with rabbitmq.vhost() as other:
        bus = use_bus(vhost.url, TENANTS={"globex": own.url(other.url)})
        with listening(OrderPlaced, group="billing") as arrived, running() as runner:
            own.shut()
            own.cut()
            assert [each.state for each in send("globex", 3)] == ["accepted"] * 3
            assert [each.state for each in send(None, 3)] == ["published"] * 3
            wait_until(lambda: len(arrived) == 3, 30, "the others to be handled")
            late = send(None, delay=timedelta(minutes=3))  # behind those of the tenant in the outbox
            assert late[0].state == "accepted"
            OutboxMessage.objects.filter(message_id=late[0].id).update(available_at="2020-01-01T00:00Z")
            wait_until(lambda: len(arrived) == 4, 30, "the relay to pass the tenant's messages by")
            assert {context.tenant for _, context in arrived} == {""}
            found = {each.bus.label: each.finding() for each in runner.consumers}
            assert found["main"].status == "healthy"
            wait_until(lambda: runner.consumers[1].finding().status == "degraded", 30, "health to say so")
            (depth,) = bus.depths()
            assert depth.note.startswith("globex: ")
            own.open()
            OutboxMessage.objects.update(available_at="2020-01-01T00:00Z")
            wait_until(lambda: len(arrived) == 7, 60, "those of the tenant")
    assert Counter(context.tenant for _, context in arrived) == {"": 4, "globex": 3}


@services
@stored
def test_a_key_of_a_tenant_whose_broker_is_away_holds_up_no_key_of_others(
    use_bus: UseBus, vhost: Vhost, own: Proxy, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koan_django.messaging.buses.amqp.publisher.MAX_BACKOFF_SECONDS", 0.3)
    monkeypatch.setattr("koan_django.messaging.handling.consumer.MAX_BACKOFF_SECONDS", 0.3)
    with rabbitmq.vhost() as other:
        use_bus(vhost.url, TENANTS={"globex": own.url(other.url)}, PARTITIONS=2)
        with listening(StockMoved, group="stock") as arrived, running():
            own.shut()
            own.cut()
            with tenant.use("globex"):
                assert [StockMoved(sku="a", count=count).send().state for count in range(3)] == ["accepted"] * 3
            wait_until(OutboxMessage.objects.filter(tries__gt=0).exists, 30, "the relay to have tried")
            assert [StockMoved(sku="a", count=count).send().state for count in range(3)] == ["published"] * 3
            with transaction.atomic():
                StockMoved(sku="a", count=3).send()
            wait_until(lambda: len(arrived) == 4, 30, "the others to be handled, the one from the outbox too")
            own.open()
            OutboxMessage.objects.update(available_at="2020-01-01T00:00Z")
            wait_until(lambda: len(arrived) == 7, 60, "those of the tenant")
    for name, many in (("", 4), ("globex", 3)):
        assert [each.count for each, context in arrived if context.tenant == name] == list(range(many))


# fairness


class Places:
    """A pool that notes what it is given and finishes what it is told to."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.given: list[tuple[Any, Callable[..., None]]] = []

    def submit(self, batch: Any, done: Callable[..., None]) -> bool:
        self.given.append((batch, done))
        return True

    def finish(self, batch: Any) -> None:
        """End the oldest that is like ``batch``."""
        index = next(index for index, each in enumerate(self.given) if each[0] == batch)
        self.given.pop(index)[1](batch, [])


def greedy(share: Any, name: Any) -> int:
    """Submit as much as there is room for."""
    count = 0
    while share.has_room(wanted=True):
        share.submit(name, lambda *_: None)
        count += 1
    return count


def test_a_busy_one_leaves_a_place_and_a_newcomer_has_it_at_once() -> None:
    pool: Any = Places(4)
    divided = DividedPool(pool)
    busy, quiet, third = (divided.share() for _ in range(3))
    assert greedy(busy, "busy") == 3
    assert greedy(quiet, "quiet") == 1
    pool.finish("busy")
    assert not busy.has_room(wanted=True)  # what is free is left to whoever has none
    assert greedy(third, "third") == 1


def test_one_that_has_ended_while_it_waited_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("koan_django.messaging.handling.fairness.time.monotonic", lambda: now)
    pool: Any = Places(3)
    divided = DividedPool(pool)
    gone, busy = divided.share(), divided.share()
    assert greedy(busy, "busy") == 2
    gone.submit("gone", lambda *_: None)
    assert not gone.has_room(wanted=True)  # it waits, and never asks again
    pool.finish("gone")
    pool.finish("busy")
    pool.finish("busy")
    assert greedy(busy, "busy") == 1
    now += 0.2
    assert greedy(busy, "busy") == 0  # half of what is not spare is for the other, which may only be slow
    now += 3
    assert greedy(busy, "busy") == 1


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_that_are_busy_have_their_turn_by_count(size: int) -> None:
    pool: Any = Places(size)
    divided = DividedPool(pool)
    shares = {name: divided.share() for name in "abcdefg"}
    woken: set[str] = set()
    for name, share in shares.items():
        share.wake = lambda name=name: woken.add(name)  # type: ignore[misc]
        greedy(share, name)
    done: Counter[str] = Counter()
    for _ in range(700):
        name = pool.given[0][0]
        pool.finish(name)
        done[name] += 1
        greedy(shares[name], name)  # whoever had it is the first to ask again
        while woken:
            each = woken.pop()
            greedy(shares[each], each)
        assert pool.given
        assert len(pool.given) <= size
    assert set(done) == set(shares)
    assert max(done.values()) - min(done.values()) <= size + 1


@services
@stored
def test_a_backlog_of_one_tenant_keeps_another_waiting_for_a_bounded_number_of_its_messages(
    use_bus: UseBus, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url, TENANTS={"acme": "queues", "globex": "queues"}, BATCH=10)
    handled: list[str] = []

    def work(message: OrderPlaced) -> None:
        time.sleep(0.002)
        handled.append(tenant.current() or "")

    with listening(OrderPlaced, work, group="billing"):
        with running():
            pass
        send("acme", 10_000)
        between: list[int] = []
        with running(4):
            wait_until(lambda: len(handled) > 100, 30, "the backlog to be worked off")
            for number in range(30):
                before = len(handled)
                send("globex", first=number)
                wait_until(lambda n=number: handled.count("globex") > n, 30, "it to be handled", every=0.001)
                place = [index for index, name in enumerate(handled) if name == "globex"][number]
                between.append(place - before)
            waiting = bus.depths()[0].sections["t.acme"]
            assert waiting > 0, "the backlog has gone, so nothing was shown"
            wire.channel.queue_purge(Names(bus.names.prefix, "t.acme").group("billing"))
    # Three places are the backlog's, each with at most a batch of ten, while the message is on its way.
    assert sorted(between)[len(between) // 2] <= 60
    assert max(between) < 1000


# what is refused


@pytest.mark.parametrize(
    ("tenants", "why"),
    [
        ({"a.b": "queues"}, "can be no tenant's name"),
        ({"": "queues"}, "can be no tenant's name"),
        ({"acme": "queue"}, "'queues' of its own, or a URL"),
        ({"acme": "redis://r/0"}, "'queues' of its own, or a URL"),
    ],
    ids=["dots", "empty", "misspelt", "redis"],
)
def test_what_can_be_no_tenant_or_no_place_of_its_own_is_refused(tenants: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BusOptions(url="amqp://broker/", tenants=tenants)


def test_a_url_of_a_tenant_is_not_shown() -> None:
    assert "s3cret" not in repr(BusOptions(url="amqp://b/", tenants={"acme": "amqp://u:s3cret@b/acme"}))


@pytest.mark.parametrize("lanes", [-1, 65])
def test_a_number_of_lanes_out_of_reason_is_refused(lanes: int) -> None:
    with pytest.raises(ValueError, match="TENANT_LANES"):
        BusOptions(url="amqp://broker/", tenant_lanes=lanes)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("database://", {}),
        ("memory://", {}),
        ("redis://127.0.0.1:1/0", {}),
        ("amqp://127.0.0.1:1/", {"FAILOVER": ["amqp://127.0.0.1:2/"]}),
    ],
    ids=["database", "memory", "redis", "failover"],
)
@pytest.mark.parametrize("option", [{"TENANTS": {"acme": "queues"}}, {"TENANT_LANES": 2}], ids=["tenants", "lanes"])
def test_a_bus_that_cannot_keep_tenants_apart_says_so_at_start(
    use_bus: UseBus, url: str, more: dict[str, Any], option: dict[str, Any]
) -> None:
    use_bus(url, **more, **option)
    (name,) = option
    found = [each for each in check_buses(None) if each.id == "koan_messaging.E009"]
    assert [f"[{name!r}]" in each.msg and "'isolated'" in each.msg for each in found] == [True]
    with pytest.raises(CapabilityError, match="isolated"), running():
        pass
