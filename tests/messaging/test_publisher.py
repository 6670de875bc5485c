"""The publisher on a real broker, with a network that fails."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from koan_django.messaging.buses.amqp import link as links
from koan_django.messaging.buses.amqp import publisher as publishers
from koan_django.messaging.buses.amqp.names import Names
from koan_django.messaging.buses.amqp.publisher import Publisher
from koan_django.messaging.buses.amqp.unconfirmed import Publication
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.envelope import Envelope
from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}
numbers = iter(range(10**9))


def message(exchange: str, key: str, identifier: str = "", **headers: str) -> Publication:
    number = next(numbers)
    body = b"%d" % number
    made = Envelope(identifier or f"m{number}", "order.placed", 1, body, headers, "order.placed.p")
    return Publication(exchange, key, made)


def envelope(identifier: str, group: str = "billing") -> Envelope:
    return Envelope(identifier, "order.placed", 1, b"{}", {}, "order.placed.p", group=group)


def no_false_success(publisher: Publisher, proxy: Proxy, wire: Wire, count: int) -> Counter[str]:
    """Publish ``count`` messages, half of them to a full queue, while the network stalls; compare what is said with
    what is there. Return how often each was said."""
    good, full = wire.queue("good"), wire.queue("full", **FULL)
    wire.publish(full, b"fills it")
    said: Counter[str] = Counter()
    confirmed: set[str] = set()
    waiting = [(full if number % 2 else good, f"id{number}") for number in range(count)]
    turn = 0
    while waiting:
        # Every other stall begins at once: a fast machine may have its confirms within five milliseconds.
        begin = 0.0 if turn % 8 == 3 else 0.005
        stalled = threading.Timer(begin, proxy.pause, ["down"]) if turn % 4 == 3 else None
        batch, waiting = waiting[:100], waiting[100:]
        if stalled is not None:
            stalled.start()
        outcomes = publisher.publish([message("", queue, identifier) for queue, identifier in batch])
        if stalled is not None:
            stalled.join()
            proxy.resume()
        for (queue, identifier), outcome in zip(batch, outcomes, strict=True):
            said[outcome.state] += 1
            if outcome.state == "confirmed":
                assert queue == good
                confirmed.add(identifier)
            elif outcome.state == "refused":
                assert queue == full
            else:
                assert outcome.state in ("unknown", "unsent")
                waiting.append((queue, identifier))
        if "unsent" in {outcome.state for outcome in outcomes}:
            answers(publisher, ("", "missing"))
        turn += 1
    there = Counter(each.properties["message_id"] for each in wire.take(good))
    assert set(there) == confirmed == {f"id{number}" for number in range(0, count, 2)}
    assert sum(there.values()) <= count // 2 + said["unknown"]
    assert wire.depth(full) == 1
    return said


@pytest.fixture
def publisher(make: Callable[..., Publisher]) -> Publisher:
    return make()


@pytest.fixture
def make(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Publisher]]:
    """Publishers of this test. They connect again without a pause, and wait a second for a confirm."""
    monkeypatch.setattr(publishers, "MIN_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(publishers, "MAX_BACKOFF_SECONDS", 0.2)
    with ExitStack() as stack:

        def start(url: str = "", confirm: float = 1.0) -> Publisher:
            options = BusOptions(url=url or vhost.url, confirm_timeout=timedelta(seconds=confirm))
            made = Publisher(options, Names("t"))
            made.start()
            stack.callback(made.stop)
            return made

        yield start


def states(publisher: Publisher, *addresses: tuple[str, str]) -> list[str]:
    return [outcome.state for outcome in publisher.publish([message(*address) for address in addresses])]


def answers(publisher: Publisher, *addresses: tuple[str, str]) -> list[str]:
    """What becomes of messages once the publisher has connected again, and the broker has time to answer."""
    return wait_until(
        lambda: _answered(states(publisher, *addresses)), 10, "the publisher to connect again", every=0.01
    )


def _answered(found: list[str]) -> list[str]:
    return [] if {"unsent", "unknown"} & set(found) else found


def test_every_message_gets_its_own_verdict(publisher: Publisher, wire: Wire) -> None:
    good, full = wire.queue("good"), wire.queue("full", **FULL)
    assert states(publisher, ("", full)) == ["confirmed"]
    found = states(publisher, *[("", good), ("", full), ("", "missing"), ("t", "nobody.p")] * 3)
    assert found == ["confirmed", "refused", "returned", "returned"] * 3
    assert wire.depth(good) == 3


def test_a_refusal_or_a_return_costs_no_connection(publisher: Publisher, wire: Wire) -> None:
    full = wire.queue("full", **FULL)
    states(publisher, ("", full))
    connection = publisher._link._connection
    found = Counter(states(publisher, *[("", full), ("", "missing")] * 200))
    assert found == {"refused": 200, "returned": 200}
    assert [states(publisher, ("", full)) for _ in range(20)] == [["refused"]] * 20
    assert publisher._link._connection is connection


def test_nothing_is_called_confirmed_that_the_broker_does_not_have(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire
) -> None:
    """Confirms fail to come again and again, beside a full queue; what is unknown is published again with its id."""
    found = no_false_success(make(through, confirm=0.3), proxy, wire, 1000)
    assert found["refused"]
    assert found["unknown"]
    assert found["confirmed"] == 500


def test_threads_that_publish_at_once_each_get_their_own_verdicts(publisher: Publisher, wire: Wire) -> None:
    good, full = wire.queue("good"), wire.queue("full", **FULL)
    states(publisher, ("", full))

    def publish(number: int) -> list[tuple[str, str]]:
        found = []
        for turn in range(40):
            queue = (good, "missing", full)[(number + turn) % 3]
            found.append((queue, states(publisher, ("", queue))[0]))
        return found

    with ThreadPoolExecutor(8) as threads:
        verdicts = [pair for pairs in threads.map(publish, range(8)) for pair in pairs]
    assert {queue: {state for name, state in verdicts if name == queue} for queue in (good, full, "missing")} == {
        good: {"confirmed"},
        full: {"refused"},
        "missing": {"returned"},
    }
    assert wire.depth(good) == Counter(state for _, state in verdicts)["confirmed"]


def test_one_message_on_its_way_to_two_groups_gets_a_verdict_for_each(publisher: Publisher, wire: Wire) -> None:
    """They share their id, and one group's queue is not there."""
    good = wire.queue("good")
    for _ in range(20):
        twice = [message("", queue, "same") for queue in (good, "missing", good)]
        assert [outcome.state for outcome in publisher.publish(twice)] == ["confirmed", "returned", "confirmed"]
    assert wire.depth(good) == 40


def test_a_broker_that_does_not_answer_leaves_messages_unknown(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire
) -> None:
    good = wire.queue("good")
    publisher = make(through, confirm=0.3)
    assert states(publisher, ("", good)) == ["confirmed"]
    proxy.pause("down")
    began = time.monotonic()
    assert states(publisher, *[("", good)] * 5) == ["unknown"] * 5
    assert time.monotonic() - began < 3
    proxy.resume()
    assert answers(publisher, ("", good)) == ["confirmed"]
    wait_until(lambda: wire.depth(good) == 7, what="what was unknown: it had arrived")


def test_a_late_confirm_is_never_taken_for_another_message(
    make: Callable[..., Publisher], vhost: Vhost, wire: Wire
) -> None:
    """Two hundred times: a confirm that comes too late, then a message that the broker refuses."""
    good, full = wire.queue("good"), wire.queue("full", **FULL)
    wire.publish(full, b"fills it")

    def tries(_: int) -> list[str]:
        found = []
        with Proxy.before(vhost.url) as proxy:
            publisher = make(proxy.url(vhost.url), confirm=0.1)
            for _ in range(25):
                assert answers(publisher, ("", full)) == ["refused"]
                proxy.pause("down")
                assert states(publisher, ("", good)) == ["unknown"]
                proxy.resume()
                found += answers(publisher, ("", full), ("", "missing"))
        return found

    with ThreadPoolExecutor(8) as threads:
        verdicts = Counter(state for found in threads.map(tries, range(8)) for state in found)
    assert verdicts == {"refused": 200, "returned": 200}


def test_a_cut_connection_leaves_unknown_what_was_written_and_the_next_message_goes_through(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire
) -> None:
    good = wire.queue("good")
    publisher = make(through)
    assert states(publisher, ("", good)) == ["confirmed"]
    proxy.pause("down")
    with ThreadPoolExecutor(1) as threads:
        caller = threads.submit(states, publisher, *[("", good)] * 3)
        wait_until(lambda: wire.depth(good) == 4, what="the broker to have them")
        proxy.cut()
        proxy.resume()
        assert caller.result(5) == ["unknown"] * 3
    assert answers(publisher, ("", good)) == ["confirmed"]


class TooLong(Exception):
    """Nobody else's."""


@pytest.mark.parametrize("error", [TooLong, TimeoutError, ConnectionResetError], ids=lambda error: error.__name__)
def test_a_time_limit_may_end_a_caller_who_is_publishing_and_the_publisher_goes_on(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire, error: type[Exception]
) -> None:
    """A signal raises in the main thread wherever that is, in the middle of a frame too, and what it likes."""

    def on_alarm(number: int, frame: object) -> None:
        raise error

    good = wire.queue("good")
    publisher = make(through, confirm=20)
    assert states(publisher, ("", good)) == ["confirmed"]
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        for _ in range(3):
            proxy.pause("down")
            threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGALRM]).start()
            with pytest.raises(error):
                states(publisher, ("", good))
            proxy.resume()
            assert answers(publisher, ("", good)) == ["confirmed"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_time_limit_that_strikes_while_the_connection_is_looked_at_reaches_the_caller(
    publisher: Publisher, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = wire.queue("good")
    assert states(publisher, ("", good)) == ["confirmed"]
    link, caller, struck = publisher._link, threading.get_ident(), []
    wait = link.wait

    def interrupted(seconds: float) -> None:
        if threading.get_ident() == caller and not seconds and not struck:
            struck.append(seconds)
            raise TooLong
        wait(seconds)

    def is_struck() -> bool:
        link.fresh_until = 0.0
        try:
            states(publisher, ("", good))
        except TooLong:
            return True
        return False  # the publisher's own thread has looked before

    monkeypatch.setattr(link, "wait", interrupted)
    wait_until(is_struck, 10, "this thread to look")
    assert answers(publisher, ("", good)) == ["confirmed"]


def test_what_a_signal_handler_sends_in_the_middle_of_a_publish_is_not_sent(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire
) -> None:
    """It would write into the frame at hand. Its caller keeps it in the outbox."""
    good = wire.queue("good")
    publisher = make(through, confirm=20)
    assert states(publisher, ("", good)) == ["confirmed"]
    found: list[str] = []

    def on_alarm(number: int, frame: object) -> None:
        if publisher._owning._is_owned():  # type: ignore[attr-defined]  # or the publisher's own thread was looking at the connection
            found.extend(states(publisher, ("", good)))
        proxy.resume()

    before, sent = signal.signal(signal.SIGALRM, on_alarm), 1
    try:
        while not found and sent < 20:
            proxy.pause("down")
            # To this thread: the system may give an alarm to another, and this one would see it when its wait is over.
            threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGALRM]).start()
            assert states(publisher, ("", good)) == ["confirmed"]
            sent += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert found == ["unsent"]
    assert wire.depth(good) == sent


def test_a_publisher_that_has_nothing_to_do_sleeps(
    make: Callable[..., Publisher], vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    serve = Publisher._serve

    def counted(self: Publisher) -> None:
        nonlocal turns
        turns += 1
        serve(self)

    good = wire.queue("good")
    publisher = make(vhost.url)
    for _ in range(3):
        assert states(publisher, ("", good)) == ["confirmed"]
    monkeypatch.setattr(Publisher, "_serve", counted)
    time.sleep(1.5)
    assert turns <= 4  # one a second, to see whether the connection lives


def test_who_wakes_a_publisher_that_has_ended_writes_into_no_file_of_the_users(
    publisher: Publisher, wire: Wire, tmp_path: Path
) -> None:
    """The numbers of what it had open are other files' by then."""
    assert states(publisher, ("", wire.queue("good"))) == ["confirmed"]
    publisher.stop()
    with ExitStack() as stack:
        files = [stack.enter_context((tmp_path / f"{number}").open("wb")) for number in range(100)]
        publisher.try_again()
        assert not any(os.fstat(file.fileno()).st_size for file in files)


def test_what_is_done_with_gives_its_descriptors_back_at_once(vhost: Vhost) -> None:
    """And not when the garbage is collected: some servers collect none."""
    gc.collect()
    gc.disable()
    try:
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(3):
            link = links.Link(vhost.url, "test")
            link.connect()
            link.disconnect()
            del link
        after = set(os.listdir("/proc/self/fd"))
    finally:
        gc.enable()
    assert len(after - before) == 0


def test_a_message_is_one_write_and_its_confirm_one_read(
    publisher: Publisher, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = wire.queue("good")
    assert states(publisher, ("", good)) == ["confirmed"]
    asked: list[str] = []
    write, read, connection = os.write, os.read, publisher._link._polled

    def counted(name: str, descriptor: int) -> None:
        if descriptor == connection:
            asked.append(name)

    monkeypatch.setattr(os, "write", lambda to, data: (counted("write", to), write(to, data))[1])
    monkeypatch.setattr(os, "read", lambda of, size: (counted("read", of), read(of, size))[1])
    monkeypatch.setattr(publisher._link._transport, "write", lambda data: asked.append("asked first"))
    assert [states(publisher, ("", good)) for _ in range(20)] == [["confirmed"]] * 20
    assert asked == ["write", "read"] * 20


@pytest.mark.parametrize("way", ["write", "read"])
def test_the_number_of_a_closed_socket_is_nobody_elses(publisher: Publisher, wire: Wire, way: str) -> None:
    """Another file may have it by then."""
    good = wire.queue("good")
    assert states(publisher, ("", good)) == ["confirmed"]
    ours, theirs = socket.socketpair()
    with publisher._owning, ours, theirs:
        link, number = publisher._link, publisher._link._polled
        ahead = link._ahead
        assert ahead is not None
        link._socket.close()
        os.dup2(ours.fileno(), number)
        try:
            theirs.sendall(b"for somebody else")
            with pytest.raises(OSError, match="Bad file descriptor"):
                link.write(b"frames") if way == "write" else ahead.read(7)
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(100)
            assert ours.recv(100) == b"for somebody else"
        finally:
            os.close(number)


def test_a_message_is_whole_though_the_socket_takes_a_piece_at_a_time(
    make: Callable[..., Publisher], wire: Wire
) -> None:
    publisher, good = make(confirm=30.0), wire.queue("good")  # many small pieces take their time under load
    assert states(publisher, ("", good)) == ["confirmed"]
    publisher._link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    body = random.Random(1).randbytes(500_000)
    large = Envelope("large", "order.placed", 1, body, {}, "order.placed.p")
    small = [message("", good, "small") for _ in range(2)]
    said = publisher.publish([small[0], Publication("", good, large), small[1]])
    assert [outcome.state for outcome in said] == ["confirmed"] * 3
    [_, first, second, third] = wire.take(good)
    assert (first.properties["message_id"], third.properties["message_id"]) == ("small", "small")
    assert second.body == body


def test_while_the_broker_is_away_nobody_is_kept_waiting(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "CONNECT_SECONDS", 1)
    good = wire.queue("good")
    proxy.pause()  # it accepts, and says nothing
    publisher = make(through)
    assert states(publisher, ("", good)) == ["unsent"]  # whoever comes first finds out
    began = time.monotonic()
    assert states(publisher, *[("", good)] * 3) == ["unsent"] * 3
    assert time.monotonic() - began < 0.5
    proxy.cut()
    proxy.resume()
    assert answers(publisher, ("", good)) == ["confirmed"]
    assert wire.depth(good) == 1


def test_what_its_caller_gave_up_before_it_was_written_is_not_written_any_more(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "GRACE_SECONDS", 0.1)
    good = wire.queue("good")
    proxy.pause()
    publisher = make(through, confirm=0.2)
    assert states(publisher, ("", good)) == ["unknown"]
    proxy.resume()
    assert answers(publisher, ("", good)) == ["confirmed"]
    assert wire.depth(good) == 1


def test_the_waits_for_what_was_begun_do_not_add_up(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire
) -> None:
    publisher, queue = make(through, confirm=10), wire.queue("good")
    assert answers(publisher, ("", queue)) == ["confirmed"]
    publisher._grace = 0.5
    proxy.pause("down")
    begun = [publisher.begin([message("", queue)]) for _ in range(5)]
    began = time.monotonic()
    assert [outcomes()[0].state for outcomes in begun] == ["unknown"] * 5
    assert time.monotonic() - began < 5 * 0.5


def test_headers_that_no_frame_holds_are_refused_and_harm_no_other(publisher: Publisher, wire: Wire) -> None:
    good = wire.queue("good")
    connection = None
    for header in ({"big": "x" * 200_000}, {"x" * 300: "a name too long"}):
        batch = [message("", good), message("", good, **header), message("", good)]
        outcomes = publisher.publish(batch)
        assert [outcome.state for outcome in outcomes] == ["confirmed", "impossible", "confirmed"]
        assert connection in (None, publisher._link._connection)  # it was not lost over it
        connection = publisher._link._connection
    assert wire.depth(good) == 4


def test_a_forked_child_publishes_on_its_own_connection_and_the_parent_goes_on(
    use_bus: Any, vhost: Vhost, wire: Wire
) -> None:
    bus = use_bus(vhost.url)
    queue = wire.queue(bus.names.group("billing"))
    assert bus.publish([envelope("a")])[0].state == "confirmed"
    connection, thread = bus.publisher._link._connection, bus.publisher
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; they are the point here
        pid = os.fork()
    if pid == 0:
        try:
            gc.collect()
            found = [outcome.state for outcome in bus.publish([envelope("b"), envelope("c", group="missing")])]
            own = bus.publisher is not thread
            bus.close()
            gc.collect()
            os._exit(0 if found == ["confirmed", "returned"] and own else 3)
        except BaseException:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bus.publish([envelope("d")])[0].state == "confirmed"
    assert (bus.publisher, bus.publisher._link._connection) == (thread, connection)
    assert sorted(each.properties["message_id"] for each in wire.take(queue)) == ["a", "b", "d"]


def test_a_publisher_that_has_ended_is_replaced(use_bus: Any, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    wire.queue(bus.names.group("billing"))
    assert bus.publish([envelope("a")])[0].state == "confirmed"
    bus.publisher.stop()
    assert bus.publish([envelope("b")])[0].state == "confirmed"


def test_an_idle_connection_is_kept_alive_and_a_dead_one_is_noticed(
    make: Callable[..., Publisher], proxy: Proxy, through: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HEARTBEAT_SECONDS", 1)
    good = wire.queue("good")
    publisher = make(through)
    assert states(publisher, ("", good)) == ["confirmed"]
    connection = publisher._link._connection
    threading.Event().wait(4)  # the broker gives up on a silent connection after two heartbeats
    assert publisher._link._connection is connection
    assert states(publisher, ("", good)) == ["confirmed"]
    assert publisher._link._connection is connection
    proxy.pause()
    wait_until(lambda: publisher._link._connection is not connection, 10, "the silence to be noticed")


def test_a_broker_that_is_short_of_memory_gets_nothing_and_nothing_false_is_said(
    make: Callable[..., Publisher], own_rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "GRACE_SECONDS", 60)
    rabbitmq = own_rabbitmq
    with rabbitmq.vhost() as vhost, wired(vhost.url) as wire:
        publisher = make(vhost.url, confirm=0.5)
        good = wire.queue("good")
        assert states(publisher, ("", good)) == ["confirmed"]
        rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            with ThreadPoolExecutor(1) as threads:
                written = threads.submit(states, publisher, ("", good))  # the first that is written tells
                wait_until(lambda: publisher.blocked, 10, "the broker to say that it is blocked")
                began = time.monotonic()
                assert states(publisher, *[("", good)] * 3) == ["unsent"] * 3
                assert time.monotonic() - began < 0.5
                assert "short of memory" in publisher.error
                assert not written.done()
                threading.Event().wait(1.0)  # longer than a confirm may take: but nothing is wrong with it
                assert publisher.blocked
                rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1GB")
                assert written.result(30) == ["confirmed"]
        finally:
            rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1GB")
        wait_until(lambda: states(publisher, ("", good)) == ["confirmed"], 20, "messages to go through again")
        assert not publisher.blocked
        assert wire.depth(good) == 3
