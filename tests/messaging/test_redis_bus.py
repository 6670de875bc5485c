"""The bus on Redis: a server that is killed, short of memory or emptied; leases, poison and round trips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client
from django.db import OperationalError
from msgspec.structs import replace
from redis.connection import Connection

from koan_django.core import PermanentError, rotation
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import UnroutableError, examinations, send_many
from koan_django.messaging.buses.redis import consumer as consumers
from koan_django.messaging.handling import burial
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage
from koan_django.messaging.outgoing import sending
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPaid, OrderPlaced, ThreadPool, listening
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.redis import Redis
from tests.services.waiting import free_port, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services("redis")]


class Own:
    """A Redis of one test, with an append-only file."""

    def __init__(self, process: StartProcess, folder: Path) -> None:
        self._start, self._folder, self._port = process, folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client: Any = client.Redis.from_url(self.url)
        self.process: Process

    def start(self) -> None:
        program = Redis.binary()
        assert program is not None
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        self.process = self._start("redis", [program, *options, "--appendonly", "yes"])
        wait_until(self.client.ping, 30, "Redis to answer", errors=(client.RedisError,))


@pytest.fixture
def own(process: StartProcess, tmp_path: Path) -> Iterator[Own]:
    """A server that a test may stop, starve and empty."""
    made = Own(process, tmp_path)
    made.start()
    yield made
    made.client.close()


def handled(count: int) -> Callable[[], bool]:
    return lambda: MessageEvent.objects.filter(kind="handled").count() == count


def numbers(arrived: list[Any]) -> list[int]:
    return sorted(message.number for message, _ in arrived)


def bound() -> None:
    """Have the groups known to Redis."""
    with running():
        pass


def test_what_was_confirmed_outlives_a_server_that_is_killed(use_bus: UseBus, own: Own) -> None:
    use_bus(own.url)
    with listening(OrderPlaced, group="billing") as arrived:
        bound()
        receipts = send_many([OrderPlaced(number) for number in range(300)])
        assert {receipt.state for receipt in receipts} == {"published"}
        own.process.kill()
        assert OrderPlaced(300).send().state == "accepted"  # into the outbox
        own.start()
        with running():
            wait_until(handled(301), 60, "all of them")
    assert numbers(arrived) == list(range(301))


def test_a_server_that_evicts_is_refused_by_workers_and_senders(use_bus: UseBus, own: Own) -> None:
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    bus = use_bus(own.url)
    with listening(OrderPlaced, group="billing") as arrived, running(consuming=False) as runner:
        wait_until(lambda: "maxmemory-policy is allkeys-lru" in runner.consumers[0].error, 20, "the worker to say so")
        assert OrderPlaced(1).send().state == "accepted"
        assert "allkeys-lru" in OutboxMessage.objects.get().last_error
        own.client.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: arrived, 30, "the message")
    bus.probe()


def test_a_server_without_memory_refuses_and_the_messages_wait(use_bus: UseBus, own: Own) -> None:
    use_bus(own.url)
    with listening(OrderPlaced, group="billing") as arrived:
        bound()
        own.client.config_set("maxmemory", 1)
        assert OrderPlaced(1).send().state == "accepted"
        assert "short of memory" in OutboxMessage.objects.get().last_error
        own.client.config_set("maxmemory", 0)
        with running():
            wait_until(lambda: arrived, 30, "the message")


def test_the_doctor_names_a_server_that_forgets(use_bus: UseBus, own: Own) -> None:
    use_bus(own.url)
    (found,) = [each for each in examinations.buses() if each.name == "bus.main"]
    assert found.status == "healthy"
    own.client.config_set("appendonly", "no")
    (found,) = [each for each in examinations.buses() if each.name == "bus.main"]
    assert found.status == "degraded"
    assert "no append-only file" in found.message


def test_a_password_that_rotates_is_used_without_a_restart(
    use_bus: UseBus, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD_OF_TEST", "first-password")
    own.client.acl_setuser(
        "shop", enabled=True, passwords=["+first-password"], categories=["+@all"], keys=["*"], channels=["*"]
    )
    use_bus(own.url.replace("redis://", "redis://shop:{{secret:env:REDIS_PASSWORD_OF_TEST}}@"))
    with listening(OrderPlaced, group="billing") as arrived, running():
        assert OrderPlaced(1).send().state == "published"
        own.client.acl_setuser("shop", enabled=True, passwords=["+second-password", "-first-password"])
        monkeypatch.setenv("REDIS_PASSWORD_OF_TEST", "second-password")
        rotation.announce()
        for connection in own.client.client_list():
            if connection["user"] == "shop":
                own.client.client_kill_filter(_id=connection["id"])
        wait_until(lambda: OrderPlaced(2).send().state == "published", 30, "the new password to be used", every=0.5)
        wait_until(lambda: set(numbers(arrived)) == {1, 2}, 30, "the messages")


def test_a_server_that_was_emptied_is_furnished_again(use_bus: UseBus, own: Own) -> None:
    use_bus(own.url)
    with listening(OrderPlaced, group="billing") as arrived, running():
        OrderPlaced(1).send()
        wait_until(lambda: arrived, 20, "the first message")
        own.client.flushall()
        own.client.script_flush()

        def sent() -> bool:
            try:
                return bool(OrderPlaced(2).send())
            except UnroutableError:  # until the worker has bound its groups again
                return False

        wait_until(sent, 30, "the groups")
        wait_until(lambda: numbers(arrived) == [1, 2], 20, "the second message")


def test_a_wrong_password_is_told_and_not_shown(use_bus: UseBus, own: Own) -> None:
    own.client.config_set("requirepass", "right-password")
    use_bus(own.url.replace("redis://", "redis://:wrong-password@"))
    with listening(OrderPlaced, group="billing"), running(consuming=False) as runner:
        wait_until(lambda: "AuthenticationError" in runner.consumers[0].error, 20, "the worker to say so")
        assert "wrong-password" not in runner.consumers[0].error
        assert OrderPlaced(1).send().state == "accepted"
        assert "wrong-password" not in OutboxMessage.objects.get().last_error


def test_a_url_that_cannot_be_read_is_told_and_its_password_not_shown(
    use_bus: UseBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT_OF_TEST", "port")
    bus = use_bus("redis://:hunter22@host:{{secret:env:PORT_OF_TEST}}/0")
    with pytest.raises(Exception, match="the URL cannot be read") as caught:
        bus.probe()
    assert "hunter22" not in str(caught.value)


def test_a_group_that_was_bound_a_moment_ago_misses_nothing(use_bus: UseBus, redis: Redis) -> None:
    use_bus(redis.url)
    with listening(OrderPlaced, group="billing") as billing:
        with running():
            OrderPlaced(1).send()  # the sender knows the bindings now
            wait_until(lambda: billing, 20, "the message")
        with listening(OrderPlaced, group="stock") as stock, running():
            OrderPlaced(2).send()
            wait_until(lambda: stock, 20, "the message of the new group")
    assert numbers(stock) == [2]


def test_what_a_live_worker_works_on_for_long_stays_its(use_bus: UseBus, redis: Redis) -> None:
    use_bus(redis.url, LEASE=2)
    work = listening(OrderPlaced, lambda message: time.sleep(5), group="billing", atomic=False)
    with work as arrived, running(size=1), running(size=1):
        OrderPlaced(1).send()
        wait_until(handled(1), 30, "the message")
    assert len(arrived) == 1
    assert not MessageEvent.objects.filter(kind__in=("duplicate", "postponed")).exists()


def test_nothing_of_a_handled_message_stays_in_redis(use_bus: UseBus, redis: Redis) -> None:
    bus = use_bus(redis.url)
    outcomes = {1: None, 2: PermanentError("no")}

    def work(message: OrderPlaced) -> None:
        if error := outcomes[message.number]:
            raise error

    with listening(OrderPlaced, work, group="billing"), running():
        send_many([OrderPlaced(1), OrderPlaced(2)])
        wait_until(lambda: handled(1)() and DeadLetter.objects.exists(), 20, "both")
        wait_until(lambda: [(d.waiting, d.in_progress) for d in bus.depths()] == [(0, 0)], 20, "nothing to be left")
    for stream in bus.names.streams("billing"):
        assert bus.server.client.xlen(stream) == 0
        assert bus.server.client.xinfo_consumers(stream, "koan") == []  # whoever stops leaves


def test_dead_letters_wait_for_a_database_that_is_away(
    use_bus: UseBus, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "PAUSE_SECONDS", 0.2)
    write, away = burial._write, [True]

    def failing(bus: str, dead: Any) -> None:
        if away:
            raise OperationalError("the server closed the connection")
        write(bus, dead)

    monkeypatch.setattr(burial, "_write", failing)
    bus = use_bus(redis.url)

    def refuse(message: OrderPlaced) -> None:
        if message.number < 3:
            raise PermanentError("no")

    with listening(OrderPlaced, refuse, group="billing"), running() as runner:
        send_many([OrderPlaced(number) for number in range(3)])
        wait_until(lambda: "cannot be written" in runner.consumers[0].trouble, 20, "the consumer to say so")
        OrderPlaced(3).send()
        wait_until(handled(1), 20, "another message to be handled meanwhile")
        away.clear()
        wait_until(lambda: DeadLetter.objects.count() == 3, 20, "the dead letters")
        wait_until(lambda: not runner.consumers[0].trouble, 20, "the trouble to be over")
        wait_until(lambda: bus.depths()[0].in_progress == 0, 20, "Redis to let go of them")


def test_a_message_that_silences_each_of_its_workers_is_given_up(use_bus: UseBus, redis: Redis) -> None:
    bus = use_bus(redis.url, LEASE=2, DELIVERY_LIMIT=5)
    with listening(OrderPlaced, group="billing") as arrived:
        bound()
        send_many([OrderPlaced(1), OrderPlaced(2)])
        silent = bus.consumer(ThreadPool(1))  # it takes the messages, and its thread never runs
        first, _second = silent.fetch("billing", 10)
        stream = bus.names.streams("billing")[0]
        bus.server.client.xclaim(stream, "koan", "the-fifth", 0, [first.ref.id], idle=60_000, retrycount=5)
        with running():
            wait_until(lambda: DeadLetter.objects.exists() and arrived, 30, "a dead letter and the other message")
    assert numbers(arrived) == [2]
    dead = DeadLetter.objects.get()
    assert dead.message_id == first.envelope.id
    assert "5 deliveries in a row ended without one" in dead.error


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({b"type": b"order.placed", b"body": b"\xff\xfe\x00"}, "unreadable"),
        ({b"type": b"order.placed"}, "unreadable"),
        ({b"\xff": b"\x00", b"version": b"x", b"attempt": b"-5", b"headers": b"[1]"}, "unhandled"),
        ({b"type": b"order.placed", b"headers": b"\xff", b"body": b'{"number": 1}', b"id": b"i" * 900}, ""),
    ],
    ids=["bytes", "no-body", "nothing-right", "long-id"],
)
def test_what_a_stranger_adds_is_handled_or_parked(
    use_bus: UseBus, redis: Redis, fields: dict[bytes, bytes], reason: str
) -> None:
    bus = use_bus(redis.url)
    with listening(OrderPlaced, group="billing") as arrived, running():
        bus.server.client.xadd(bus.names.streams("billing")[0], fields)
        OrderPlaced(7).send()
        expected = [7] if reason else [1, 7]
        wait_until(lambda: numbers(arrived) == expected and DeadLetter.objects.count() == bool(reason), 20, "both")
    assert list(DeadLetter.objects.values_list("reason", flat=True)) == ([reason] if reason else [])


def test_what_was_given_back_comes_before_what_is_new(use_bus: UseBus, redis: Redis) -> None:
    bus = use_bus(redis.url)
    with listening(OrderPlaced, group="billing"):
        bound()
        send_many([OrderPlaced(number) for number in range(4)])
        first, second = bus.consumer(ThreadPool(1)), bus.consumer(ThreadPool(1))
        taken = first.fetch("billing", 2)
        first.give_back(taken)
        first.give_back(taken)  # they are no longer its to give
        again = second.fetch("billing", 10)
    assert [each.envelope.decode(OrderPlaced).number for each in again] == [0, 1, 2, 3]
    assert first.fetch("billing", 10) == []


def test_who_has_lost_a_message_neither_retries_nor_buries_it(use_bus: UseBus, redis: Redis) -> None:
    from koan_django.messaging.handling.verdicts import Verdict

    bus = use_bus(redis.url)
    with listening(OrderPlaced, group="billing"):
        bound()
        send_many([OrderPlaced(1), OrderPlaced(2)])
        first, second = bus.consumer(ThreadPool(1)), bus.consumer(ThreadPool(1))
        taken = first.fetch("billing", 2)
        first.give_back(taken)
        assert len(second.fetch("billing", 2)) == 2
        dead = Verdict("dead", reason="permanent", error="late")
        first.settle([(taken[0], Verdict("retry")), (taken[1], dead)])
        (depth,) = bus.depths()
    assert (depth.waiting, depth.in_progress) == (0, 2)
    assert not DeadLetter.objects.exists()
    assert not MessageEvent.objects.filter(kind="retried").exists()


def test_a_hundred_messages_are_published_in_one_round_trip(
    use_bus: UseBus, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = use_bus(redis.url)
    with listening(OrderPlaced, group="billing"), listening("order.*", group="audit"):
        bound()
        send_many([OrderPlaced(0)])
        trips: list[int] = []
        send = Connection.send_packed_command

        def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
            trips.append(1)
            return send(self, *args, **kwargs)

        monkeypatch.setattr(Connection, "send_packed_command", counting)
        outcomes = bus.publish([sending.wrap(OrderPlaced(number), "main") for number in range(100)])
        monkeypatch.undo()
        assert {outcome.state for outcome in outcomes} == {"confirmed"}
        assert len(trips) == 1
        assert sum(depth.waiting for depth in bus.depths()) == 202


def test_one_call_tells_each_message_its_own_outcome(use_bus: UseBus, redis: Redis) -> None:
    bus = use_bus(redis.url)
    with listening(OrderPlaced, group="billing"):
        bound()
        good = sending.wrap(OrderPlaced(1), "main")
        lost = replace(sending.wrap(OrderPaid(1), "main"), id="lost")
        outcomes = bus.publish([good, lost, replace(good, id="x", group="nobody"), replace(good, group="billing")])
    assert [outcome.state for outcome in outcomes] == ["confirmed", "returned", "returned", "confirmed"]
    assert "no group's stream receives 'order.paid'" in outcomes[1].reason
    assert not InboxEntry.objects.exists()
