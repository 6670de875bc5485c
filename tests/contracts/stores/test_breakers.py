"""A breaker over every store: shared by processes, free when closed, and never the cause of an outage itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from koan_django.core import health, telemetry
from koan_django.core.breaker import Breaker, BreakerOpenError, reset, trip
from koan_django.core.circuits import BreakerPolicy, Circuit, Permit
from koan_django.core.stores import breaker_store
from koan_django.core.telemetry import Event
from koan_django.testing import FrozenClock, frozen_clock
from tests.contracts.stores.conftest import COMMITTING

pytestmark = [pytest.mark.database, COMMITTING, pytest.mark.usefixtures("kind")]

POLICY = BreakerPolicy(failures=3, window=timedelta(seconds=10), open_for=timedelta(seconds=4))
DOWN = ConnectionError("nobody listens at amqp://u:hunter2@h")


@pytest.fixture
def clock() -> Iterator[FrozenClock]:
    with frozen_clock() as frozen:
        yield frozen


def process(policy: BreakerPolicy = POLICY) -> Breaker:
    """The breaker as another process has it."""
    return Breaker("stripe", policy)


def fail(breaker: Breaker, times: int = 1, error: BaseException = DOWN) -> None:
    for _ in range(times):
        with pytest.raises(type(error)), breaker.guard():
            raise error


def opened(clock: FrozenClock) -> Breaker:
    breaker = process()
    fail(breaker, 3)
    return breaker


def refused(breaker: Breaker) -> BreakerOpenError:
    with pytest.raises(BreakerOpenError) as caught, breaker.guard():
        raise AssertionError("the call was made")
    return caught.value


class TestSharing:
    def test_failures_of_several_processes_add_up_and_all_are_spared(self, clock: FrozenClock) -> None:
        one, two, third = process(), process(), process()
        assert [each.state for each in (one, two, third)] == ["closed"] * 3
        fail(one, 2)
        fail(two)
        assert two.state == "open"
        clock.advance(seconds=1)
        for breaker in (one, two, third):
            error = refused(breaker)
            assert error.transient
            assert error.retry_after == timedelta(seconds=3)
            assert "hunter2" not in str(error)
            assert "the breaker 'stripe' is open: ConnectionError: nobody listens" in str(error)

    def test_failures_that_are_far_apart_do_not_open_it(self, clock: FrozenClock) -> None:
        breaker = process()
        for _ in range(6):
            fail(breaker)
            clock.advance(seconds=5)
        assert breaker.state == "closed"

    def test_a_permanent_error_is_an_answer(self, clock: FrozenClock) -> None:
        breaker = process()
        fail(breaker, 5, ValidationError("no"))
        assert breaker.state == "closed"
        assert breaker_store().read("stripe")[0].failures == ()

    def test_what_was_begun_before_the_last_change_counts_no_more(self, clock: FrozenClock) -> None:
        slow = process()
        permit = slow.admit()
        opened(clock)
        reset("stripe")
        slow.conclude(permit, DOWN)
        assert breaker_store().read("stripe")[0].failures == ()

    def test_an_answer_that_was_overtaken_does_not_hide_that_it_has_opened_since(
        self, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker = process()
        store: Any = type(breaker_store())
        read = store.read

        def slow(*args: Any) -> Any:
            answer = read(*args)
            monkeypatch.setattr(store, "read", read)
            clock.advance(seconds=0.1)
            for _ in range(POLICY.failures):  # as other threads of this process may meanwhile
                breaker.failed(Permit(answer[0].generation), "down")
            return answer

        monkeypatch.setattr(store, "read", slow)
        assert breaker.state == "open"


class TestHalfOpen:
    def test_one_probe_of_all_processes_goes_through_and_closes_it(self, clock: FrozenClock) -> None:
        one, two = opened(clock), process()
        clock.advance(seconds=4)
        with two.guard():
            assert two.state == "half-open"
            refused(one)
        assert two.state == "closed"
        clock.advance(seconds=1)
        with one.guard():
            pass

    def test_a_probe_that_fails_opens_it_for_longer_and_longer_up_to_a_limit(self, clock: FrozenClock) -> None:
        breaker = process(replace(POLICY, max_open=timedelta(seconds=10)))
        fail(breaker, 3)
        for pause in (4, 8, 10, 10):
            clock.advance(seconds=pause - 0.5)
            refused(breaker)
            clock.advance(seconds=0.5)
            fail(breaker)

    def test_the_place_of_a_probe_whose_process_died_is_free_again(self, clock: FrozenClock) -> None:
        opened(clock)
        clock.advance(seconds=4)
        process().admit()  # and nothing more is heard of it
        refused(process())
        clock.advance(seconds=30)
        process().admit()

    def test_a_probe_that_is_told_to_end_gives_its_place_to_another(self, clock: FrozenClock) -> None:
        breaker = opened(clock)
        clock.advance(seconds=4)
        fail(breaker, error=KeyboardInterrupt())
        assert breaker.state == "half-open"
        with breaker.guard():
            pass
        assert breaker.state == "closed"

    def test_of_many_that_ask_at_once_one_may_probe(self, clock: FrozenClock) -> None:
        opened(clock)
        clock.advance(seconds=4)
        together, admitted = threading.Barrier(6), []

        def ask() -> None:
            together.wait(30)
            try:
                admitted.append(process().admit())
            except BreakerOpenError:
                pass
            finally:
                connections.close_all()

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(admitted) == 1


class TestCost:
    def test_a_closed_breaker_costs_one_look_a_second_and_writes_nothing(
        self, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker, calls = process(), Counted(monkeypatch)
        with CaptureQueriesContext(connection) as queries:
            for _ in range(1000):
                with breaker.guard():
                    pass
            assert (calls.reads, calls.changes, len(queries)) == (1, 0, min(len(queries), 1))
            clock.advance(seconds=1)
            for _ in range(1000):
                with breaker.guard():
                    pass
            assert (calls.reads, calls.changes, len(queries)) == (2, 0, min(len(queries), 2))

    def test_an_open_one_asks_the_store_no_more_often(
        self, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker = opened(clock)
        calls = Counted(monkeypatch)
        for _ in range(100):
            refused(breaker)
        assert (calls.reads, calls.changes) == (0, 0)


class Counted:
    """Counts what the store is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.changes = 0
        store: Any = type(breaker_store())
        read, change = store.read, store.change

        def counted_read(*args: Any) -> Any:
            self.reads += 1
            return read(*args)

        def counted_change(*args: Any) -> Any:
            self.changes += 1
            return change(*args)

        monkeypatch.setattr(store, "read", counted_read)
        monkeypatch.setattr(store, "change", counted_change)


class TestByHand:
    def test_it_stays_open_until_somebody_resets_it(self, clock: FrozenClock) -> None:
        breaker = process()
        trip("stripe", "the provider asked for it")
        clock.advance(days=30)
        error = refused(breaker)
        assert error.retry_after is None
        assert "the provider asked for it. Reset it in the admin" in str(error)
        reset("stripe")
        clock.advance(seconds=1)
        with breaker.guard():
            pass

    def test_a_breaker_trips_and_resets_itself_at_once(self, clock: FrozenClock) -> None:
        breaker = process()
        breaker.trip("maintenance")
        refused(breaker)
        breaker.reset()
        assert breaker.state == "closed"


class TestTelling:
    def test_each_change_of_state_is_an_event_and_the_open_ones_are_health_findings(self, clock: FrozenClock) -> None:
        events: list[Event] = []
        stop = telemetry.subscribe(events.append, "core.breaker")
        try:
            breaker = opened(clock)
            [found] = health.aggregate().findings
            assert (found.name, found.status) == ("breaker.stripe", "degraded")
            assert "ConnectionError: nobody listens" in found.message
            assert "hunter2" not in found.message
            clock.advance(seconds=4)
            with breaker.guard():
                pass
        finally:
            stop()
        moves = [(each.metadata["before"], each.metadata["state"]) for each in events]
        assert moves == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
        assert health.aggregate().findings == ()


class TestUse:
    def test_as_a_decorator(self, clock: FrozenClock) -> None:
        breaker = process()

        @breaker.guard()
        def charge(amount: int) -> int:
            if amount < 0:
                raise DOWN
            return amount

        assert charge(3) == 3
        for _ in range(3):
            with pytest.raises(ConnectionError):
                charge(-1)
        with pytest.raises(BreakerOpenError):
            charge(3)

    def test_in_a_coroutine(self, clock: FrozenClock) -> None:
        breaker = process()

        async def call(error: Exception | None = None) -> None:
            async with breaker.aguard():
                if error:
                    raise error

        async def all_of_it() -> None:
            await call()
            for _ in range(3):
                with pytest.raises(ConnectionError):
                    await call(DOWN)
            with pytest.raises(BreakerOpenError):
                await call()
            clock.advance(seconds=4)
            await call()
            await sync_to_async(connections.close_all)()

        asyncio.run(all_of_it())
        assert breaker.state == "closed"

    def test_what_failed_in_a_transaction_that_is_rolled_back_counts(self, kind: str, clock: FrozenClock) -> None:
        """Except with rows of SQLite: it has one writer, which is the caller."""
        breaker = process()
        for _ in range(3):
            with pytest.raises(ConnectionError), transaction.atomic(), breaker.guard():
                raise DOWN
        lost = kind == "rows" and connection.vendor == "sqlite"
        assert process().state == ("closed" if lost else "open")

    def test_in_a_broken_transaction_it_goes_by_what_it_knows(self, kind: str, clock: FrozenClock) -> None:
        breaker = process()
        fail(breaker)
        clock.advance(seconds=5)
        with transaction.atomic():
            transaction.set_rollback(True)
            with breaker.guard():
                pass


def test_a_step_that_comes_late_is_taken_anew() -> None:
    store = breaker_store()
    seen: list[Circuit] = []

    def step(circuit: Circuit, now: float) -> Circuit:
        seen.append(circuit)
        if len(seen) == 1:
            store.change("stripe", lambda circuit, now: replace(circuit, openings=7))
        return replace(circuit, reason="mine")

    change = store.change("stripe", step)
    assert [each.openings for each in seen] == [0, 7]
    assert (change.after.openings, change.after.reason, change.after.version) == (7, "mine", 2)
    circuit, _ = store.read("stripe")
    assert (circuit.openings, circuit.reason, circuit.version) == (7, "mine", 2)


def test_a_circuit_comes_back_as_it_was_written() -> None:
    full = Circuit("half-open", (1.8e9, 1.8e9 + 0.25), 3, 1.8e9 + 5, (1.8e9 + 6.125,), True, "naïve «λ»", 1.8e9 + 1, 9)
    step: Callable[[Circuit, float], Circuit] = lambda circuit, now: full  # noqa: E731
    breaker_store().change("stripe", step)
    assert breaker_store().read("stripe")[0] == replace(full, version=1)
    assert breaker_store().circuits() == {"stripe": replace(full, version=1)}
