"""What ``inbox.claim()`` and the handlers of messages may rely on, whatever the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from koan_django import inbox
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.telemetry import Event, subscribe
from koan_django.inbox.claiming import claiming
from koan_django.inbox.exceptions import InboxBusyError
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling.invocation import handle
from koan_django.testing import frozen_clock
from koan_django.testing.faults import fault
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.usefixtures("kind")]


class Stop(Exception):
    pass


def scope(key: str) -> Scope:
    return Scope("", "", "", "stripe", "", key)


def duplicates() -> dict[str, int]:
    return dict(configured().figures().duplicates)


@contextmanager
def heard(prefix: str = "inbox.") -> Iterator[list[Event]]:
    events: list[Event] = []
    unsubscribe = subscribe(events.append, prefix)
    try:
        yield events
    finally:
        unsubscribe()


def claimed(key: str = "evt-1") -> bool:
    with inbox.claim("stripe", key) as claim:
        return not claim.duplicate


# webhooks


def test_what_was_claimed_once_is_a_duplicate_and_counted() -> None:
    with inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate
        User.objects.create_user("paid")
    with heard() as events:
        assert not claimed()
        assert not claimed()
    assert claimed("evt-2")
    assert duplicates() == {"stripe": 2}
    assert [event.name for event in events] == ["inbox.duplicate"] * 2


def test_work_that_fails_may_be_claimed_again_at_once() -> None:
    with pytest.raises(Stop), inbox.claim("stripe", "evt-1"):
        User.objects.create_user("paid")
        raise Stop
    assert not User.objects.exists()
    assert claimed()
    assert duplicates() == {}


def test_work_in_an_outer_transaction_that_rolls_back_is_not_done() -> None:
    with frozen_clock() as clock:
        with pytest.raises(Stop), transaction.atomic():
            assert claimed()
            raise Stop
        clock.advance(seconds=61)  # a store that is not in the transaction keeps the lease until it ends
        assert claimed()
        assert not claimed()


def test_a_claim_beside_another_is_busy(kind: str) -> None:
    if kind == "database":
        pytest.skip("a claim in the transaction of its work waits")
    with inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate
        with pytest.raises(InboxBusyError), claiming([scope("evt-1")], using=None):
            pass
    assert not claimed()
    assert duplicates() == {"stripe": 1}


def test_many_are_claimed_at_once_and_what_comes_twice_among_them_counts_as_a_duplicate() -> None:
    assert claimed("a")
    with transaction.atomic(), claiming([scope(key) for key in "abbcb"], using="default") as fresh:
        assert fresh == [False, True, False, True, False]
    assert duplicates() == {"stripe": 3}
    assert [claimed(key) for key in "abcd"] == [False, False, False, True]


def test_of_many_that_fail_all_may_be_claimed_again() -> None:
    with pytest.raises(Stop), transaction.atomic(), claiming([scope("a"), scope("b")], using="default"):
        raise Stop
    assert [claimed("a"), claimed("b")] == [True, True]


def test_where_one_of_many_is_being_done_none_is_held(kind: str) -> None:
    if kind == "database":
        pytest.skip("a claim in the transaction of its work waits")
    with claiming([scope("b")], using=None):
        with pytest.raises(InboxBusyError), transaction.atomic(), claiming([*map(scope, "abc")], using="default"):
            pass
        assert claimed("a")
        assert claimed("c")
    assert not claimed("b")


def test_who_was_overtaken_does_not_commit(kind: str) -> None:
    if kind == "database":
        pytest.skip("nobody can overtake a claim in the transaction of its work")
    with frozen_clock() as clock:
        with pytest.raises(LeaseLostError), inbox.claim("stripe", "evt-1"):
            User.objects.create_user("late")
            clock.advance(seconds=61)
            with claiming([scope("evt-1")], using=None) as fresh:
                assert fresh == [True]
        assert not User.objects.exists()
        assert not claimed()


def test_a_claim_that_is_committed_and_not_marked_is_done_again_when_its_lease_has_ended(kind: str) -> None:
    if kind == "database":
        pytest.skip("the mark is part of the commit")
    with frozen_clock() as clock:
        with fault("inbox.claim.before_mark", error=Stop):
            assert claimed()
        with pytest.raises(InboxBusyError):
            claimed()
        clock.advance(seconds=61)
        assert claimed()
        assert not claimed()


# handlers


def delivery(number: int = 1, identifier: str = "m1") -> Delivery:
    body = b'{"number": %d}' % number
    return Delivery(Envelope(identifier, "order.placed", 1, body, {}, "order.placed.p", "g"), "main", "g")


def outcomes(*deliveries: Delivery) -> list[str]:
    return [verdict.outcome for verdict in handle("main", "g", deliveries)]


@pytest.mark.parametrize("atomic", [True, False])
def test_a_message_that_comes_again_is_a_duplicate(atomic: bool) -> None:
    with listening(OrderPlaced, group="g", name="tests.h", atomic=atomic) as arrived:
        assert outcomes(delivery()) == ["handled"]
        assert outcomes(delivery()) == ["duplicate"]
    assert len(arrived) == 1
    assert duplicates() == {"tests.h": 1}


@pytest.mark.parametrize("atomic", [True, False])
def test_a_handler_that_fails_may_try_again(atomic: bool) -> None:
    failures: list[Exception] = [ConnectionError("once")]

    def fail(message: OrderPlaced) -> None:
        if failures:
            raise failures.pop()

    with listening(OrderPlaced, fail, group="g", atomic=atomic, name="tests.h"):
        assert outcomes(delivery()) == ["retry"]
        assert outcomes(delivery()) == ["handled"]
        assert outcomes(delivery()) == ["duplicate"]


def test_a_batch_leaves_out_what_was_handled_and_what_fails_in_it_condemns_no_other() -> None:
    poisonous: list[int] = []

    def fail(messages: list[OrderPlaced]) -> None:
        if any(message.number in poisonous for message in messages):
            raise ConnectionError

    with listening(OrderPlaced, fail, group="g", batch=5, name="tests.h") as arrived:
        assert outcomes(delivery(2, "m2")) == ["handled"]
        assert outcomes(*(delivery(number, f"m{number}") for number in (1, 2, 3, 3))) == [
            *("handled", "duplicate", "handled", "duplicate"),
        ]
        poisonous.append(5)
        assert outcomes(delivery(4, "m4"), delivery(5, "m5")) == ["handled", "retry"]
        poisonous.clear()
        assert outcomes(delivery(4, "m4"), delivery(5, "m5")) == ["duplicate", "handled"]
    assert [[message.number for message in messages] for messages, _ in arrived][:2] == [[2], [1, 3]]
    assert duplicates() == {"tests.h": 3}


@pytest.mark.parametrize("atomic", [True, False])
def test_a_message_that_somebody_else_is_handling_is_postponed_without_counting_an_attempt(atomic: bool) -> None:
    work = Scope("", "main", "g", "tests.h", "order.placed", "m1")
    with listening(OrderPlaced, group="g", name="tests.h", atomic=atomic, max_attempts=1) as arrived:
        with claiming([work], using=None):
            assert outcomes(delivery()) == ["postpone"]
        assert outcomes(delivery()) == ["duplicate"]
    assert arrived == []


def test_what_an_atomic_handler_has_committed_and_a_kill_left_unmarked_is_handled_again(kind: str) -> None:
    if kind == "database":
        pytest.skip("the mark is part of the commit")
    with listening(OrderPlaced, group="g", name="tests.h") as arrived, frozen_clock() as clock:
        with fault("inbox.claim.before_mark", error=Stop):
            assert outcomes(delivery()) == ["handled"]
        assert outcomes(delivery()) == ["postpone"]
        clock.advance(seconds=61)
        assert outcomes(delivery()) == ["handled"]
        assert outcomes(delivery()) == ["duplicate"]
    assert len(arrived) == 2
