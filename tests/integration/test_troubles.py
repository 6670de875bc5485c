"""Handlers that hang, fork, leave, leak and worse, in live workers: what is said, and where the message went."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from koan_django.messaging import send_many
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from tests.integration.conftest import Live
from tests.integration.project.messages import LockingTrouble, LongWork, Trouble, Work
from tests.integration.test_workers import address, database, on_both_buses
from tests.services.waiting import wait_until


def dead_letter(seconds: float = 60) -> DeadLetter:
    """Wait for a dead letter and return it; there is no other."""
    wait_until(DeadLetter.objects.exists, seconds, "the dead letter")
    return DeadLetter.objects.get()


def details(kind: str) -> set[str]:
    """What the events of ``kind`` say."""
    return set(MessageEvent.objects.filter(kind=kind).values_list("detail", flat=True))


@pytest.mark.services("rabbitmq")
@pytest.mark.parametrize(
    ("broker", "bus"),
    [pytest.param("filesystem", "database", marks=database), ("amqp", "amqp")],  # without an event loop, and with one
)
def test_a_handler_that_never_returns_is_ended_and_its_neighbours_are_unharmed(
    live: Live, request: pytest.FixtureRequest, broker: str, bus: str
) -> None:
    live.use(address(bus, request), address(broker, request))
    worker = live.worker(size=3)
    worker.expect("messaging.limits")
    send_many([Trouble(number) for number in range(20)])
    live.once(20)  # quick ones go in batches now
    hanging = {24: Trouble(24, "hang"), 26: Trouble(26, "hang_deaf", times=1)}
    send_many([hanging.get(number, Trouble(number)) for number in range(20, 30)])
    dead = dead_letter()
    wait_until(lambda: len(live.effects()) == 29, 60, "all others to be done")
    assert live.effects() == Counter(set(range(30)) - {24})
    assert (dead.envelope().decode(Trouble).number, dead.reason, dead.attempt) == (24, "exhausted", 2)
    assert dead.error_type.endswith("TimeLimitError")
    assert dead.error.startswith("live.trouble was ended: it ran longer than its soft time limit of 1.5 s.")
    assert "troubles.py" in dead.traceback  # where it hung
    assert any("it ran longer than its time limit of 3 s" in text for text in details("retried"))
    assert {attempt for number, attempt, _ in live.calls() if number not in hanging} == {1}
    wait_until(lambda: not QueuedDelivery.objects.exists(), 30, "what was handled to be settled")


#: Each number with what its handler does, and how the message must end.
ODD = {
    0: LockingTrouble(0, "fork"),
    1: Trouble(1, "leave"),
    2: Trouble(2, "exit_politely"),
    4: Trouble(4, "grumble"),
    5: LockingTrouble(5, "close_database"),
    6: Trouble(6, "close_database"),
    7: Trouble(7, "start_threads"),
    8: Trouble(8, "fork", times=1),
}
GIVEN_UP = {
    1: ("WorkerLostError", "the worker's child died while it handled the message: it was killed, ran out of memory,"),
    2: ("HandlerExitError", "live.trouble asked the interpreter to end: it raised SystemExit(3)."),
    5: ("ClosedTransactionError", "live.locking closed the database connection inside its transaction: what it had"),
}
#: A child that has more, in KiB, is replaced when its batch is over.
MEMORY = 130_000


def number_of(dead: DeadLetter) -> int:
    return dead.envelope().decode(Trouble if dead.alias == "live.trouble" else LockingTrouble).number


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@on_both_buses
def test_handlers_that_mistreat_their_process_harm_only_their_own_messages(
    live: Live, request: pytest.FixtureRequest, bus: str
) -> None:
    live.use(address(bus, request), limits=(30, 60))  # out of the way: who waits for a full disk is not to blame
    worker = live.worker(f"--max-memory-per-child={MEMORY}")
    send_many(ODD.values())
    send_many([Work(number) for number in range(10, 20)])
    good = set(range(20)) - {3, 9, *GIVEN_UP}

    def all_over() -> bool:
        assert not good - live.effects().keys()
        assert {number_of(dead) for dead in DeadLetter.objects.all()} >= GIVEN_UP.keys()
        return True

    wait_until(all_over, 60, "the ends", errors=(AssertionError,))
    assert live.effects() == Counter(good)
    for dead in DeadLetter.objects.all():
        kind, text = GIVEN_UP[number_of(dead)]
        assert (dead.reason, dead.attempt) == ("exhausted", 2)
        assert dead.error_type.endswith(kind)
        assert text in dead.error
    assert "live.locking forked, and the copy came back out of the handler" in worker.output
    assert "live.trouble forked, and the copy came back out of the handler" in worker.output
    Trouble(3, "leak").send()  # when nobody else ends a child
    wait_until(lambda: 3 in live.effects(), 30, "the one that leaks to be handled")
    [(_, attempt, leaking)] = [call for call in live.calls() if call[0] == 3]
    assert attempt == 1
    wait_until(lambda: not is_running(leaking), 30, "the child that leaks to be replaced")
    assert "not even when I go" in worker.output
    assert worker.running
    assert "is not consumed" not in worker.output
    wait_until(lambda: not QueuedDelivery.objects.exists(), 30, "what was handled to be settled")


@pytest.mark.services("rabbitmq")
@pytest.mark.parametrize("bus", [pytest.param("database", marks=database), "amqp"])
def test_a_handler_that_takes_longer_than_a_stop_waits_is_handed_to_the_next_worker(
    live: Live, request: pytest.FixtureRequest, bus: str
) -> None:
    """Its worker is still at it when the other gets the message: the inbox sees to it that one of them counts."""
    live.use(
        address(bus, request), address("amqp", request), drain=0.2
    )  # with an event loop it sees the signal at once
    worker = live.worker(size=1)
    LongWork(0, seconds=5).send()
    wait_until(live.calls, 30, "the handler to be called")
    worker.send(signal.SIGTERM)
    worker.expect("Batches are still running after the drain", timeout=30)
    live.worker(size=1)
    send_many([Work(number) for number in range(1, 5)])
    live.once(5)
    wait_until(lambda: not worker.running, 30, "the first worker to end")
    assert live.effects() == Counter(range(5))
    assert not DeadLetter.objects.exists()


@database
def test_a_time_limit_that_strikes_while_a_transaction_begins_leaves_no_lock_behind(live: Live) -> None:
    """On SQLite the neighbours wait for the one that hangs, and their time runs out in the middle of a BEGIN."""
    live.use("database://")
    live.worker()
    send_many([LockingTrouble(number, "hang" if number == 3 else "", times=1) for number in range(10)])
    wait_until(lambda: DeadLetter.objects.count() + len(live.effects()) == 10, 60, "all to be settled")
    Work(10).send()
    wait_until(lambda: 10 in live.effects(), 30, "somebody else to write")
    assert not DeadLetter.objects.exists()  # who waited lost no attempt


@database
@pytest.mark.long
def test_a_message_that_ends_every_worker_is_a_dead_letter_in_the_end_and_takes_nobody_with_it(live: Live) -> None:
    """A thread that is killed takes the worker with it, and nobody is left to give a verdict."""
    live.use("database://", DELIVERY_LIMIT=5)
    send_many([Work(number, dies=99 if number == 3 else 0) for number in range(10)])
    for _ in range(8):
        worker = live.worker(pool="threads")
        wait_until(lambda: DeadLetter.objects.exists() or not worker.running, 60, "a verdict or an end")  # noqa: B023
        if DeadLetter.objects.exists():
            break
    dead = dead_letter(1)
    assert (dead.envelope().decode(Work).number, dead.reason) == (3, "exhausted")
    assert "5 deliveries in a row ended without one" in dead.error
    assert len([number for number, _, _ in live.calls() if number == 3]) == 5
    wait_until(lambda: len(live.effects()) == 9, 30, "the others")
    assert live.effects() == Counter(set(range(10)) - {3})
