"""Ordered groups: one partition after the other, shared by workers that come, go, stand still and fail."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from koan_django.core.exceptions import RegistrationError
from koan_django.messaging import Message, PartitionKey, handlers, send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.dead.deadletters import replay
from koan_django.messaging.handlers import handler
from koan_django.messaging.models import DeadLetter, MessageEvent, Partition, PartitionWorker, QueuedDelivery
from koan_django.messaging.routing import partition_in, partition_of
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.wire import wired
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = ["database", "memory", pytest.param("amqp", marks=pytest.mark.services("rabbitmq"))]
SHARED = ["database", pytest.param("amqp", marks=pytest.mark.services("rabbitmq"))]


class StockCounted(Message):
    """Another class with the same key."""

    sku: PartitionKey[str]
    count: int

    class Meta:
        alias = "stock.counted"


class NeverError(Exception):
    """It makes no sense to try again."""

    transient = False


@pytest.fixture
def use(use_bus: UseBus, request: pytest.FixtureRequest) -> Any:
    def bus(kind: str, **options: Any) -> Any:
        url = request.getfixturevalue("vhost").url if kind == "amqp" else f"{kind}://"
        return use_bus(url, **options)

    return bus


def in_two_partitions(partitions: int = 16) -> tuple[str, str]:
    """Two keys that have nothing to do with each other."""
    first = "sku-0"
    keys = (f"sku-{number}" for number in range(1, 100))
    return first, next(key for key in keys if partition_of(key, partitions) != partition_of(first, partitions))


def by_key(arrived: list[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for message, _ in arrived:
        found[message.sku].append(message.count)
    return found


@contextmanager
def ordered_by(function: Callable[[StockMoved, Any], None]) -> Iterator[None]:
    """Handle the movements of stock in order."""
    handler(StockMoved, group="stock", name="tests.ordered")(function)
    try:
        yield
    finally:
        handlers.forget("tests.ordered")


def declared() -> None:
    """Have the queues declared."""
    with running():
        pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [StockMoved, "stock.*"], ids=["class", "pattern"])
def test_each_key_is_handled_in_order_by_several_workers(use: Any, kind: str, target: Any) -> None:
    use(kind)
    order: dict[str, list[int]] = defaultdict(list)

    def note(value: Any) -> None:
        message = value if isinstance(value, StockMoved) else value.decode(StockMoved)
        order[message.sku].append(message.count)

    with listening(target, note, group="stock"), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(running())
        for count in range(10):
            send_many(StockMoved(f"sku-{key}", count) for key in range(10))
        wait_until(lambda: sum(map(len, order.values())) >= 100, 60, "all to be handled")
    assert order == {f"sku-{key}": list(range(10)) for key in range(10)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_message_blocks_its_partition_and_no_other(use: Any, kind: str) -> None:
    use(kind, RETRY={"FIRST_DELAY": 0.2, "FACTOR": 1, "MAX_DELAY": 0.2, "MAX_ATTEMPTS": 500, "JITTER": 0})
    bad, good = in_two_partitions()
    done: list[tuple[str, int]] = []
    tries: list[int] = []

    def work(message: StockMoved, context: Any) -> None:
        if (message.sku, message.count) == (bad, 1):
            tries.append(context.attempt)
            raise ConnectionError("not now") if (good, 4) not in done or len(tries) < 3 else NeverError("never")
        done.append((message.sku, message.count))

    with ordered_by(work), running():
        for count in range(5):
            for key in (bad, good):
                StockMoved(key, count).send()
        wait_until(lambda: len(done) == 9, 60, "the others")
        wait_until(DeadLetter.objects.exists, 30, "the dead letter")
    assert tries == list(range(1, len(tries) + 1))
    assert [count for key, count in done if key == bad] == [0, 2, 3, 4]
    assert done.index((good, 4)) < done.index((bad, 2))
    dead = DeadLetter.objects.get()
    assert (dead.reason, dead.attempt, dead.group) == ("permanent", len(tries), "stock")
    assert MessageEvent.objects.filter(kind="retried").count() == len(tries) - 1
    if kind != "memory":
        assert set(Partition.objects.values_list("state", "message_id")) == {("open", "")}


@pytest.mark.parametrize("kind", KINDS)
def test_after_its_last_attempt_a_message_is_set_aside(use: Any, kind: str) -> None:
    use(kind, PARTITIONS=1)
    calls: list[int] = []

    def work(message: StockMoved) -> None:
        calls.append(message.count)
        if message.count == 1:
            raise ConnectionError("not now")

    with listening(StockMoved, work, group="stock"), running():
        for count in range(3):
            StockMoved("one", count).send()
        wait_until(lambda: 2 in calls, 30, "the last one")
        wait_until(DeadLetter.objects.exists, 30, "the dead letter")
    assert calls == [0, 1, 1, 1, 2]
    assert DeadLetter.objects.get().attempt == 3


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.parametrize("skip", [True, False], ids=["skip", "retry"])
def test_a_partition_that_stopped_waits_for_a_decision(use: Any, kind: str, skip: bool) -> None:
    use(kind)
    bad, good = in_two_partitions()
    done: list[tuple[str, int]] = []
    broken = True

    def work(message: StockMoved) -> None:
        if broken and (message.sku, message.count) == (bad, 1):
            raise NeverError("wrong")
        done.append((message.sku, message.count))

    with listening(StockMoved, work, group="stock", on_failure="stop"), running() as runner:
        for count in range(4):
            for key in (bad, good):
                StockMoved(key, count).send()
        wait_until(lambda: Partition.objects.stopped().exists() and len(done) == 5, 30, "it to stop")
        wait_until(lambda: "stopped: stock.p" in runner.consumers[0].finding().message, 30, "health to say so")
        row = Partition.objects.stopped().get()
        assert (row.number, row.alias, row.error) == (partition_of(bad, 16), "stock.moved", "NeverError: wrong")
        assert not DeadLetter.objects.exists()
        broken = skip
        call_command("koan_partitions", "skip" if skip else "retry", "stock", stdout=StringIO())
        wait_until(lambda: (bad, 3) in done, 30, "it to go on")
        wait_until(lambda: DeadLetter.objects.count() == skip, 30, "the dead letter")
        wait_until(lambda: runner.consumers[0].finding().status == "healthy", 30, "health")
    assert [count for key, count in done if key == bad] == ([0, 2, 3] if skip else [0, 1, 2, 3])
    assert not Partition.objects.exclude(state="open").exists()
    assert MessageEvent.objects.filter(kind="stopped").count() == 1
    with pytest.raises(CommandError, match="no such partition has stopped"):
        call_command("koan_partitions", "retry", "stock")
    told = StringIO()
    call_command("koan_partitions", "list", stdout=told)
    assert f"stock.p{row.number}" in told.getvalue()


@pytest.mark.parametrize("kind", SHARED)
def test_partitions_are_spread_and_handed_over(use: Any, kind: str) -> None:
    use(kind, PARTITIONS=8)
    with listening(StockMoved, group="stock") as arrived, ExitStack() as stack:
        first = stack.enter_context(running()).consumers[0]
        wait_until(lambda: len(first.lines) == 8, 30, "one to have all")
        with running() as other:
            second = other.consumers[0]
            wait_until(lambda: len(first.lines) == len(second.lines) == 4, 30, "both to have half")
            assert PartitionWorker.objects.count() == 2
            send_many(StockMoved(f"sku-{number}", 0) for number in range(40))
            wait_until(lambda: len(arrived) == 40, 30, "all to be handled")
        wait_until(lambda: len(first.lines) == 8, 30, "one to have all again")
    assert not PartitionWorker.objects.exists()
    assert not Partition.objects.filter(lease_until__isnull=False).exists()  # the next one need not wait for leases


@pytest.mark.parametrize("kind", SHARED)
def test_a_batch_stops_at_the_message_that_failed(use: Any, kind: str) -> None:
    use(kind, PARTITIONS=1)
    failed = threading.Event()
    calls: list[int] = []

    def work(message: StockMoved) -> None:
        calls.append(message.count)
        if message.count == 5 and not failed.is_set():
            failed.set()
            raise ConnectionError("once")

    with listening(StockMoved, work, group="stock"):
        declared()
        for count in range(20):
            StockMoved("one", count).send()
        with running():
            wait_until(lambda: calls.count(19) == 1, 30, "all to be handled")
    assert calls == [*range(6), *range(5, 20)]


def test_a_batch_handler_in_order_takes_what_comes_before_a_bad_message(use: Any) -> None:
    use("database", PARTITIONS=1)
    calls: list[list[int]] = []

    def work(messages: list[StockMoved]) -> None:
        calls.append([message.count for message in messages])
        if 5 in calls[-1]:
            raise NeverError("wrong")

    with listening(StockMoved, work, group="stock", batch=50, on_failure="stop"):
        for count in range(10):
            StockMoved("one", count).send()
        with running():
            wait_until(Partition.objects.stopped().exists, 30, "it to stop")
    assert not [call for call in calls if len(call) == 1 and call[0] > 5]
    assert QueuedDelivery.objects.count() == 5


# which groups are ordered


def test_a_group_is_ordered_when_a_key_may_reach_it(use: Any) -> None:
    use("memory")
    with ExitStack() as stack:
        for group, target, options in (
            ("by-class", StockMoved, {}),
            ("by-pattern", "stock.#", {}),
            ("foreign", "weather.*", {}),
            ("foreign-in-order", "weather.*", {"ordered": True}),
            ("without", StockMoved, {"ordered": False}),
            ("keyless", OrderPlaced, {}),
        ):
            stack.enter_context(listening(target, group=group, **options))
        assert handlers.ordered_on("main") == {"by-class", "by-pattern", "foreign-in-order"}


def test_a_wrong_word_for_on_failure_is_refused() -> None:
    with pytest.raises(RegistrationError, match="on_failure is 'skip' or 'stop', not 'halt'"):
        handler(StockMoved, on_failure="halt")(lambda message: None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("key", "partition"), [("a.p3", 3), ("a.p", None), ("a.px", None), ("p3", None), ("a.p٣", None), ("", None)]
)
def test_the_partition_of_a_routing_key_is_its_last_word(key: str, partition: int | None) -> None:
    assert partition_in(key) == partition


# what stands on the broker


@pytest.fixture
def ordered(use_bus: UseBus, vhost: Vhost) -> Iterator[Any]:
    bus = use_bus(vhost.url, PARTITIONS=4)
    with listening(StockMoved, group="stock"), listening(StockMoved, group="plain", ordered=False):
        yield bus


def depths(vhost: Vhost, bus: Any) -> dict[str, int]:
    """Of the queues that are not empty, by name without the prefix."""
    with wired(vhost.url) as wire:
        found = {name: wire.depth(name) for name in vhost.queues()}
    return {name.removeprefix(f"{bus.options.prefix}."): depth for name, depth in found.items() if depth}


def settles(vhost: Vhost, bus: Any, expected: dict[str, int]) -> None:
    wait_until(lambda: depths(vhost, bus) == expected, 30, f"{expected}")


@pytest.mark.services("rabbitmq")
def test_a_message_is_in_one_queue_of_each_group(ordered: Any, vhost: Vhost) -> None:
    declared()
    number = partition_of("one", 4)
    StockMoved("one", 1).send()
    settles(vhost, ordered, {f"stock.p{number}": 1, "plain": 1})
    StockMoved("one", 2).send_to("stock")  # the sender need not know whether the group is ordered
    settles(vhost, ordered, {f"stock.p{number}": 2, "plain": 1})
    StockMoved("one", 3).send_to("plain")
    settles(vhost, ordered, {f"stock.p{number}": 2, "plain": 2})


@pytest.mark.services("rabbitmq")
def test_a_group_that_was_not_ordered_gets_no_copy_twice(use_bus: UseBus, vhost: Vhost) -> None:
    bus = use_bus(vhost.url, PARTITIONS=4)
    with listening(StockMoved, group="stock", ordered=False):
        declared()
    with listening(StockMoved, group="stock") as arrived:
        declared()
        StockMoved("one", 1).send()
        StockMoved("one", 2).send_to("stock")
        settles(vhost, bus, {f"stock.p{partition_of('one', 4)}": 2})
        with running():
            wait_until(lambda: len(arrived) == 2, 30, "both")
    assert [message.count for message, _ in arrived] == [1, 2]


@pytest.mark.services("rabbitmq")
def test_a_dead_letter_is_replayed_to_its_group_only(ordered: Any, vhost: Vhost) -> None:
    broken = True

    def work(message: StockMoved) -> None:
        if broken:
            raise NeverError("wrong")

    with listening(StockMoved, group="billing") as others, listening(StockMoved, work, group="late") as arrived:
        with running():
            StockMoved("one", 1).send()
            wait_until(DeadLetter.objects.exists, 30, "the dead letter")
            broken = False
            replay(DeadLetter.objects.get())
            wait_until(lambda: len(arrived) == 2, 30, "the replay")
        assert depths(vhost, ordered) == {}
    assert len(others) == 1


@pytest.mark.services("rabbitmq")
def test_the_queues_of_fewer_partitions_than_before_are_worked_off(use: Any, vhost: Vhost) -> None:
    bus = use("amqp", PARTITIONS=8, PREFIX="fewer")
    keys = [f"sku-{number}" for number in range(40)]
    with listening(StockMoved, group="stock") as arrived:
        declared()
        send_many(StockMoved(key, 1) for key in keys)
        use("amqp", PARTITIONS=2, PREFIX="fewer")
        with running():
            wait_until(lambda: len(arrived) == 40, 30, "what is in the former queues")
    assert {message.sku for message, _ in arrived} == set(keys)
    assert depths(vhost, bus) == {}


# costs


def test_what_an_ordered_message_costs_the_database(use: Any) -> None:
    """A claim is three statements for a batch of any size, as without order; handling the same four."""
    use("database", PARTITIONS=1, LEASE=60)
    with listening(StockMoved, group="stock"):
        bus = registry.get("main")
        from tests.messaging.shop import ThreadPool

        consumer: Any = bus.consumer(ThreadPool(1))
        consumer.open()
        consumer.tend()
        [lane] = consumer.lines
        for count in range(20):
            StockMoved("one", count).send()
        with CaptureQueriesContext(connection) as claiming:
            taken = consumer.fetch_lane(lane, 20)
        assert [each.envelope.decode(StockMoved).count for each in taken] == list(range(20))
        counted = Counter(each["sql"].split()[0] for each in claiming)
        assert (counted["SELECT"], counted["UPDATE"]) == (2, 1)
        consumer.shares._looked = float("inf")
        with CaptureQueriesContext(connection) as tending:
            consumer.tend()
        assert len(tending) == 0  # once a second it looks who else is there
        for ago, statements in ((0, 2), (25, 4)):  # with a third of the lease behind it, it says so and renews
            consumer.shares._looked = float("-inf")
            consumer.shares._said -= ago
            consumer.shares._renewed -= ago
            with CaptureQueriesContext(connection) as looking:
                consumer.tend()
            assert len(looking) == statements
        consumer.shut()


def test_a_worker_that_stood_still_lets_go_before_it_does_anything(use: Any) -> None:
    use("database", PARTITIONS=2)
    from tests.messaging.shop import ThreadPool

    with listening(StockMoved, group="stock"):
        bus = registry.get("main")
        late, other = (bus.consumer(ThreadPool(1)) for _ in range(2))
        late.open()
        late.tend()
        assert len(late.lines) == 2
        late.shares._renewed -= 60  # as its clock says when it wakes
        Partition.objects.update(lease_until=None)
        other.tend()
        late.tend()
        assert late.lines.keys().isdisjoint(other.lines.keys())
        time.sleep(0)
        for consumer in (late, other):
            consumer.shut()
