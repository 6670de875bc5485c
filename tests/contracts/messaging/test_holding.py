"""What becomes of the messages of a handler that is paused, or whose breaker is open, on every bus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from koan_django.core import TransientError, policy, telemetry
from koan_django.core.circuits import BreakerPolicy
from koan_django.messaging import handlers, send_many
from koan_django.messaging.control import pausing
from koan_django.messaging.handling import intake
from koan_django.messaging.models import DeadLetter, MessageEvent, RegisteredHandler
from tests.messaging.shop import OrderPaid, OrderPlaced, listening

from .conftest import Rig

pytestmark = pytest.mark.database


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "HOLD", timedelta(seconds=0.3))
    monkeypatch.setattr("koan_django.messaging.control.gate.POSTPONE", timedelta(seconds=0.3))


@contextmanager
def noticing() -> Iterator[list[tuple[str, str]]]:
    """Yield which consumers have noticed what, as it happens."""
    noticed: list[tuple[str, str]] = []

    def note(event: telemetry.Event) -> None:
        noticed.append((event.name.rpartition("_")[2], event.metadata["handler"]))

    end = telemetry.subscribe(note, "messaging.handler_")
    try:
        yield noticed
    finally:
        end()


def numbers(arrived: list[Any]) -> list[int]:
    return sorted(message.number for message, _ in arrived)


def declare(rig: Rig) -> None:
    """Have the queues of the handlers that there are now, for messages that are sent while nobody works."""
    if rig.kind not in ("database", "memory"):
        with rig.running():
            pass


def test_a_paused_handler_gets_nothing_from_any_worker_and_everything_when_it_is_resumed(rig: Rig) -> None:
    with (
        listening(OrderPlaced, group="billing", name="billing.open") as billing,
        listening(OrderPlaced, group="stock", name="stock.take") as stock,
        noticing() as noticed,
        rig.running(),
        rig.running(),
    ):
        OrderPlaced(0).send()
        rig.until(lambda: len(billing) == len(stock) == 1, "both groups to work")
        pausing.pause("billing.open", "the ledger is closed")
        rig.until(lambda: noticed.count(("held", "billing.open")) == 2, "both workers to notice")
        send_many([OrderPlaced(number) for number in range(1, 21)])
        rig.until(lambda: len(stock) == 21, "the other group to go on")
        assert len(billing) == 1
        pausing.resume("billing.open")
        rig.until(lambda: len(billing) == 21, "what has waited")
    assert numbers(billing) == list(range(21))
    assert {context.attempt for _, context in billing} == {1}
    assert not MessageEvent.objects.filter(kind="postponed").exists()


def test_messages_that_wait_for_a_paused_handler_hold_up_no_other_of_its_group(rig: Rig) -> None:
    with (
        listening(OrderPlaced, group="billing", name="billing.open") as paused,
        listening(OrderPaid, group="billing", name="billing.book") as other,
    ):
        declare(rig)
        pausing.pause("billing.open")
        send_many([OrderPlaced(number) for number in range(30)])
        send_many([OrderPaid(number) for number in range(5)])
        with rig.running():
            rig.until(lambda: len(other) == 5, "the other handler to go on")
            OrderPaid(5).send()
            rig.until(lambda: len(other) == 6, "the other handler to go on")
            assert paused == []
        with rig.running():
            assert paused == []
            pausing.resume("billing.open")
            rig.until(lambda: len(paused) == 30, "what has waited")
    assert numbers(paused) == list(range(30))
    assert {context.attempt for _, context in paused} == {1}
    assert not MessageEvent.objects.filter(kind="postponed").exists()
    assert not DeadLetter.objects.exists()


def test_a_paused_pattern_holds_up_no_other_of_its_group(rig: Rig) -> None:
    with (
        listening("order.*", group="billing", name="billing.any") as paused,
        listening(OrderPaid, group="billing", name="billing.book") as other,
    ):
        declare(rig)
        pausing.pause("billing.any")
        send_many([OrderPlaced(number) for number in range(10)])
        send_many([OrderPaid(number) for number in range(5)])
        with rig.running():
            rig.until(lambda: len(other) == 5, "the other handler to go on")
            assert paused == []
            pausing.resume("billing.any")
            rig.until(lambda: len(paused) == 10, "what has waited")
    assert {envelope.attempt for envelope, _ in paused} == {1}


def test_a_pause_and_its_end_are_noticed_where_policy_is_kept_until_its_version_changes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in production. What it costs is in tests/messaging/test_handler_admin.py."""
    monkeypatch.setattr(policy, "under_test", lambda: False)
    monkeypatch.setattr(pausing.paused, "_kept", None)
    policy.watch.forget()
    with listening(OrderPlaced, group="billing", name="billing.open") as arrived, noticing() as noticed, rig.running():
        OrderPlaced(1).send()
        rig.until(lambda: arrived, "the handler to work")
        pausing.pause("billing.open")
        rig.until(lambda: noticed, "the worker to notice")
        OrderPlaced(2).send()
        time.sleep(0.5)  # for a message that must not come there is no condition to wait for
        assert len(arrived) == 1
        pausing.resume("billing.open")
        rig.until(lambda: len(arrived) == 2, "the message that has waited")
    policy.watch.forget()


def test_a_breaker_opens_for_all_workers_and_lets_one_probe_through(rig: Rig) -> None:
    down, probes, lock = threading.Event(), Counter[str](), threading.Lock()
    down.set()

    def flaky(message: OrderPlaced) -> None:
        with lock:
            probes["now"] += 1
            probes["most"] = max(probes["most"], probes["now"])
        try:
            time.sleep(0.05)
            if down.is_set():
                raise TransientError("the bank does not answer")
        finally:
            with lock:
                probes["now"] -= 1

    policy_ = BreakerPolicy(failures=2, open_for=timedelta(seconds=2), factor=1, max_open=timedelta(seconds=2))
    options = {"group": "billing", "name": "billing.charge", "breaker": policy_, "max_attempts": 50}
    with listening(OrderPlaced, flaky, **options) as arrived:
        breaker = handlers._handlers["billing.charge"].breaker
        assert breaker is not None
        declare(rig)
        send_many([OrderPlaced(number) for number in range(12)])
        with rig.running() as one, rig.running() as other:
            consumers = (*one.consumers, *other.consumers)

            def resting() -> bool:
                return all(each.gate.held and not each.in_flight for each in consumers)

            rig.until(resting, "both workers to hold it and to be through with what ran", 30)
            openings, called = breaker.seen.openings, len(arrived)
            with lock:
                probes["most"] = probes["now"]
            rig.until(lambda: breaker.seen.openings >= openings + 2, "two probes to fail", 30)
            assert probes["most"] <= 1
            assert len(arrived) - called <= breaker.seen.openings - openings + 1
            down.clear()
            rig.until(lambda: MessageEvent.objects.filter(kind="handled").count() == 12, "everything to be handled", 30)
    assert not DeadLetter.objects.exists()
    assert breaker.seen.state == "closed"


def test_what_handlers_did_is_counted_in_their_rows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koan_django.messaging.control.tallying.FLUSH_SECONDS", 0.2)

    def odd(message: OrderPlaced) -> None:
        if message.number == 7:
            raise ValueError("seven")

    with listening(OrderPlaced, odd, group="billing", name="billing.open"), rig.running():
        send_many([OrderPlaced(number) for number in range(10)])
        rig.until(lambda: RegisteredHandler.objects.filter(handled=9, dead=1).exists(), "the counts")
    row = RegisteredHandler.objects.get(name="billing.open")
    assert (row.bus, row.group, row.binding) == ("main", "billing", "order.placed")
    assert (row.retried, row.duplicates, row.last_error) == (2, 0, "ValueError: seven")
    assert row.mean_ms is not None
    assert 0 < row.mean_ms <= row.worst_ms
    assert row.last_handled_at is not None
