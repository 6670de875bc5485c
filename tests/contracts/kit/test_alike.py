"""The kit and RabbitMQ behave alike: a scenario ends the same, drained in a test or handled by a worker's threads."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from koan_django.core import PermanentError, tenant
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import Envelope, send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.models import DeadLetter, MessageEvent
from koan_django.testing import drain, override_koan
from tests.messaging.conftest import running
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, listening
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

RETRY = {"FIRST_DELAY": 0.2, "FACTOR": 1, "MAX_DELAY": 0.2, "MAX_ATTEMPTS": 3, "JITTER": 0}


@dataclass(frozen=True)
class Seen:
    """All that can be told of a scenario once it is over."""

    handled: Counter[tuple[Any, ...]]
    events: Counter[tuple[str, str, str, int]]
    dead: Counter[tuple[str, ...]]
    rows: Counter[str]
    raised: Counter[str]


class Stage:
    """Where a scenario plays: it listens, sends, and notes what went wrong at once."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._heard: list[tuple[str, list[Any]]] = []
        self.raised: Counter[str] = Counter()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def listen(self, message: Any, function: Any = None, *, group: str, **options: Any) -> list[Any]:
        name = f"alike.{len(self._heard)}"
        heard = self._stack.enter_context(listening(message, function, group=group, name=name, **options))
        self._heard.append((group, heard))
        return heard

    @contextmanager
    def refusing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.raised[type(error).__name__] += 1

    def seen(self) -> Seen:
        events = MessageEvent.objects.exclude(kind__in=["published", "sent"])
        dead = DeadLetter.objects.values_list("alias", "group", "reason", "handler", "error_type", "error", "tenant")
        return Seen(
            handled=Counter(
                (group, _shown(value), context.attempt, context.tenant, bool(context.causation_id))
                for group, heard in self._heard
                for value, context in heard
            ),
            events=Counter(events.values_list("kind", "group", "handler", "attempt")),
            dead=Counter(dead),
            rows=Counter(Group.objects.values_list("name", flat=True)),
            raised=self.raised,
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(sorted(map(_shown, value)))
    return f"{value.alias} {value.body.decode()}" if isinstance(value, Envelope) else repr(value)


# the scenarios


def every_group_gets_a_copy_and_patterns_match(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    stage.listen("order.*", group="audit")
    stage.listen("#", group="archive")
    stage.listen("*.moved", group="stock")
    yield
    send_many([OrderPlaced(1), OrderPaid(1), StockMoved("a", 1)])


def one_group_only(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    stage.listen(OrderPlaced, group="audit")
    yield
    OrderPlaced(1).send_to("audit")


def a_failure_that_passes(stage: Stage) -> Iterator[None]:
    def fail(message: OrderPlaced) -> None:
        Group.objects.create(name=f"{message.number}-{len(heard)}")
        if heard[-1][1].attempt < 3:
            raise TimeoutError("not now")

    heard = stage.listen(OrderPlaced, fail, group="billing")
    stage.listen(OrderPlaced, group="audit")
    yield
    OrderPlaced(1).send()


def a_failure_that_stays(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, _raising(TimeoutError("never")), group="billing")
    stage.listen(OrderPlaced, group="audit")
    yield
    OrderPlaced(1).send()


def a_failure_for_good(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, _raising(PermanentError("no such order")), group="billing")
    yield
    with tenant.use("acme"):
        OrderPlaced(1).send()


def what_a_handler_sends(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, lambda message: OrderPaid(message.number).send(), group="billing")
    stage.listen(OrderPaid, group="shipping")
    yield
    with tenant.use("acme"):
        OrderPlaced(7).send()


def what_a_failing_handler_sends(stage: Stage) -> Iterator[None]:
    def pay_and_fail(message: OrderPlaced) -> None:
        OrderPaid(message.number).send()
        raise PermanentError("and yet")

    stage.listen(OrderPlaced, pay_and_fail, group="billing")
    stage.listen(OrderPaid, group="shipping")
    yield
    OrderPlaced(7).send()


def a_batch_with_one_that_fails(stage: Stage) -> Iterator[None]:
    def write(messages: list[OrderPlaced]) -> None:
        for message in messages:
            Group.objects.create(name=str(message.number))
        if any(message.number == 2 for message in messages) and len(messages) == 1:
            raise PermanentError("two")
        if any(message.number == 2 for message in messages):
            raise TimeoutError("one of us")

    stage.listen(OrderPlaced, write, group="search", batch=1)
    yield
    send_many([OrderPlaced(number) for number in range(4)])


def two_that_are_the_same(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPaid, group="billing")
    yield
    OrderPaid(1, amount=5).send()
    OrderPaid(1, amount=5).send()
    OrderPaid(2, amount=5).send()


def nobody_receives_it(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    yield
    with stage.refusing():
        OrderPaid(1).send()
    with stage.refusing():
        OrderPlaced(1).send_to("nobody")
    OrderPlaced(2).send()


def what_rolls_back(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    yield
    with stage.refusing(), transaction.atomic():
        OrderPlaced(1).send()
        raise KeyError("rolled back")
    with transaction.atomic():
        OrderPlaced(2).send()


def keys_in_order_behind_one_that_fails(stage: Stage) -> Iterator[None]:
    def fail(message: StockMoved) -> None:
        seen.append(f"{message.sku}{message.count}")
        Group.objects.create(name=f"{''.join(each for each in seen if each[0] == message.sku)}")
        if message.count == 1 and seen.count(seen[-1]) < 3:
            raise TimeoutError("not now")

    seen: list[str] = []
    stage.listen(StockMoved, fail, group="stock")
    yield
    for count in range(3):
        send_many([StockMoved("a", count), StockMoved("b", count)])


def a_key_whose_message_is_given_up(stage: Stage) -> Iterator[None]:
    def refuse(message: StockMoved) -> None:
        if message.count == 1:
            raise PermanentError("no")
        Group.objects.create(name=f"{message.sku}{message.count}")

    stage.listen(StockMoved, refuse, group="stock")
    yield
    for count in range(3):
        StockMoved("a", count).send()


def a_short_delay(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    yield
    OrderPlaced(1).send(delay=timedelta(seconds=1))
    OrderPlaced(2).send()


def a_wrong_type(stage: Stage) -> Iterator[None]:
    stage.listen(OrderPlaced, group="billing")
    yield
    with stage.refusing():
        OrderPlaced("one").send()  # type: ignore[arg-type]
    OrderPlaced(2).send()


Scenario = Callable[[Stage], Iterator[None]]
SCENARIOS: list[Scenario] = [
    keys_in_order_behind_one_that_fails,
    a_key_whose_message_is_given_up,
    every_group_gets_a_copy_and_patterns_match,
    one_group_only,
    a_failure_that_passes,
    a_failure_that_stays,
    a_failure_for_good,
    what_a_handler_sends,
    what_a_failing_handler_sends,
    a_batch_with_one_that_fails,
    two_that_are_the_same,
    nobody_receives_it,
    what_rolls_back,
    a_short_delay,
    a_wrong_type,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_ends_the_same(scenario: Scenario, vhost: Any) -> None:
    drained = _drained(scenario, "database://")
    assert drained.handled or drained.dead
    _forget()
    assert _drained(scenario, "memory://") == drained
    _forget()
    assert _worked_off(scenario, vhost.url, drained) == drained


def _forget() -> None:
    for model in (MessageEvent, DeadLetter, InboxEntry, Group):
        model.objects.all().delete()


def _drained(scenario: Scenario, url: str) -> Seen:
    with _bus(url), Stage() as stage:
        list(scenario(stage))
        wait_until(lambda: not drain(allow_dead=True).left, 20, "nothing to be left")
        return stage.seen()


def _worked_off(scenario: Scenario, url: str, wanted: Seen) -> Seen:
    with _bus(url), Stage() as stage:
        steps = scenario(stage)
        next(steps)
        with running():
            next(steps, None)
            wait_until(lambda: _ended(stage.seen()) >= _ended(wanted), 30, "as much to have ended")
        return stage.seen()


@contextmanager
def _bus(url: str) -> Iterator[None]:
    bus = {"URL": url, "PREFIX": f"t{uuid.uuid4().hex[:8]}", "POLL_INTERVAL": 0.01, "RETRY": RETRY, "PARTITIONS": 4}
    with override_koan(MESSAGING={"BUSES": {"main": bus}}):
        yield
        registry.reset()


def _ended(seen: Seen) -> int:
    """How many messages are over, one way or the other."""
    return sum(count for (kind, *_), count in seen.events.items() if kind in ("handled", "dead", "duplicate"))


def _raising(error: Exception) -> Callable[[Any], None]:
    def fail(message: Any) -> None:
        raise error

    return fail
