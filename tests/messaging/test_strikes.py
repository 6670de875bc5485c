"""A caller of the publisher is struck by an exception, or by a signal handler that sends, at each point in turn.

Celery's soft time limit and the user's interrupt come like that.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from koan_django.messaging.buses.amqp import publisher as publishers
from koan_django.messaging.buses.amqp.names import Names
from koan_django.messaging.buses.amqp.publisher import Publisher
from koan_django.messaging.buses.amqp.unconfirmed import OPEN, Publication
from koan_django.messaging.conf import BusOptions
from tests.messaging.test_publisher import FULL, message
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.striking import Striker, tracing
from tests.services.waiting import wait_until

#: A publish that is not struck passes through fewer.
_MOST_POINTS = 2000


class TooLong(Exception):
    """A time limit, as Celery's."""


class AlsoTimeout(TimeoutError):
    """A time limit that looks like an error of the network."""


class AlsoRuntime(RuntimeError):
    """A time limit that looks like an error of a lock."""


@pytest.fixture
def publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """One that connects again at once."""
    monkeypatch.setattr(publishers, "MIN_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(publishers, "MAX_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(publishers, "GRACE_SECONDS", 2.0)
    made = Publisher(BusOptions(url=vhost.url, confirm_timeout=timedelta(seconds=1)), Names("t"))
    made.start()
    yield made
    made.stop()


def said(publisher: Publisher, queue: str) -> str:
    return publisher.publish([message("", queue)])[0].state


def settle(publisher: Publisher, queue: str) -> None:
    """Wait until messages are confirmed again."""
    wait_until(lambda: said(publisher, queue) == "confirmed", 5, "messages to be confirmed", every=0.005)


@contextmanager
def another_has_it(publisher: Publisher) -> Iterator[None]:
    """Another thread uses the connection for a moment, so that a caller has to wait for it."""
    has_it = threading.Event()

    def hold() -> None:
        with publisher._owning:
            has_it.set()
            time.sleep(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    has_it.wait()
    yield
    thread.join()


def serves_others(publisher: Publisher, queue: str) -> None:
    """Another thread gets the lock, and its message is confirmed."""
    done: list[None] = []
    thread = threading.Thread(target=lambda: done.append(settle(publisher, queue)), daemon=True)
    thread.start()
    thread.join(7)
    assert done, "another thread cannot publish"


def are_answered(publications: Sequence[Publication]) -> bool:
    return all(each.outcome is not OPEN for each in publications)


@pytest.mark.parametrize("error", [TooLong, AlsoTimeout, AlsoRuntime], ids=lambda error: error.__name__)
@pytest.mark.parametrize("way", ["alone", "with messages of others", "behind another"])
def test_a_limit_reaches_its_caller_and_harms_nobody_else(
    publisher: Publisher, wire: Wire, way: str, error: type[Exception]
) -> None:
    def strike() -> None:
        raise error

    good, full = wire.queue("good"), wire.queue("full", **FULL)
    wire.publish(full, b"fills it")
    confirmed: set[str] = set()
    # A prime, so that the points of several cases are not the same.
    for number in range(1, _MOST_POINTS, 3 if way == "alone" else 7):
        settle(publisher, good)
        others = [message("", full), message("", good)] if way == "with messages of others" else []
        publisher._accept(others)
        striker, raised = Striker(number, strike), False
        with another_has_it(publisher) if way == "behind another" else nullcontext():
            try:
                with tracing(striker):
                    publisher.publish([message("", good), message("", full)])
            except error:
                raised = True
        assert raised == striker.has_struck, f"point {number}"
        wait_until(partial(are_answered, others), 2, f"an answer to the others at point {number}")
        assert not others or others[0].outcome.state != "confirmed", f"point {number}"
        confirmed.update(each.envelope.id for each in others[1:] if each.outcome.state == "confirmed")
        serves_others(publisher, good)
        if not striker.has_struck:
            break
    assert number > 20
    there = Counter(each.properties["message_id"] for each in wire.take(good))
    assert confirmed <= set(there)
    assert max(there.values()) == 1
    assert wire.depth(full) == 1


@pytest.mark.parametrize("way", ["connected", "behind another", "not connected"])
def test_what_a_signal_handler_sends_gets_an_answer_and_so_does_what_it_interrupts(
    publisher: Publisher, wire: Wire, way: str
) -> None:
    good = wire.queue("good")
    confirmed: set[str] = set()
    for number in range(1, _MOST_POINTS, 3):
        settle(publisher, good)
        if way == "not connected":
            with publisher._owning:
                publisher._link.disconnect()
        sent = [message("", good), message("", good)]
        states: list[str] = []

        def send(which: int, sent: Sequence[Publication] = sent, states: list[str] = states) -> None:
            states.append(publisher.publish([sent[which]])[0].state)

        striker, began = Striker(number, partial(send, 1)), time.monotonic()
        with another_has_it(publisher) if way == "behind another" else nullcontext(), tracing(striker):
            send(0)
        assert time.monotonic() - began < 2, f"point {number}"
        *nested, mine = states
        assert mine == "confirmed", f"point {number}"
        assert nested in (["confirmed"], ["unsent"]) if striker.has_struck else not nested, f"point {number}"
        confirmed.update(sent[which].envelope.id for which in (0, 1) if sent[which].outcome.state == "confirmed")
        if not striker.has_struck:
            break
    there = Counter(each.properties["message_id"] for each in wire.take(good))
    assert confirmed <= set(there)
    assert max(there.values()) == 1


def test_a_limit_that_strikes_as_a_write_returns_does_not_have_it_written_again(
    publisher: Publisher, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags would be out of step, and refused messages called confirmed."""
    good, full = wire.queue("good"), wire.queue("full", **FULL)
    wire.publish(full, b"fills it")
    settle(publisher, good)
    write, caller, struck = os.write, threading.get_ident(), []

    def struck_write(descriptor: int, data: Any) -> int:
        written = write(descriptor, data)
        if threading.get_ident() == caller and len(data) > 100 and not struck:
            struck.append(written)
            raise AlsoTimeout
        return written

    sent: list[Publication] = []

    def is_struck() -> bool:
        sent[:] = [message("", queue) for queue in [good] * 20 + [full] * 20]
        try:
            publisher.publish(sent)
        except AlsoTimeout:
            return True
        assert not struck, "the limit was swallowed"
        return False  # the publisher's own thread has written them

    monkeypatch.setattr(os, "write", struck_write)
    wait_until(is_struck, 10, "this thread to write")
    assert {each.outcome.state for each in sent} == {"unknown"}
    settle(publisher, good)
    assert max(Counter(each.properties["message_id"] for each in wire.take(good)).values()) == 1
