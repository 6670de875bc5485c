"""Handlers that hang, fork, leave, leak and worse, in live workers: what is said, and where the message went."""

from __future__ import annotations

from collections import Counter

import pytest

from koan_django.messaging import send_many
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from tests.integration.conftest import Live
from tests.integration.project.messages import LockingTrouble, Trouble, Work
from tests.integration.test_workers import address, database
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
    assert not QueuedDelivery.objects.exists()


@database
def test_a_time_limit_that_strikes_while_a_transaction_begins_leaves_no_lock_behind(live: Live) -> None:
    """On SQLite the neighbours wait for the one that hangs, and their time runs out in the middle of a BEGIN."""
    live.use("database://", RETRY={"FIRST_DELAY": 0.2, "MAX_DELAY": 0.2, "MAX_ATTEMPTS": 9})
    live.worker()
    send_many([LockingTrouble(number, "hang" if number == 3 else "", times=1) for number in range(10)])
    wait_until(lambda: DeadLetter.objects.count() + len(live.effects()) == 10, 60, "all to be settled")
    Work(10).send()
    wait_until(lambda: 10 in live.effects(), 30, "somebody else to write")


@database
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
