"""Running handlers: what each way of failing becomes, and that nothing is taken for done that was not."""

from __future__ import annotations

import asyncio
import pickle
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import pytest
from billiard import common
from celery.exceptions import SoftTimeLimitExceeded
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError, connection, transaction

from koan_django.core.exceptions import LeaseLostError, PermanentError, TransientError
from koan_django.core.redaction import forget_value, register_value
from koan_django.core.telemetry import subscribe
from koan_django.inbox.models import InboxEntry
from koan_django.messaging import Context, handler, handlers
from koan_django.messaging.dead.deadletters import dead_letter
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import BusyError, UnhandledMessageError, UnreadableMessageError
from koan_django.messaging.handling import invocation, middleware
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.handling.verdicts import Verdict, failed
from koan_django.messaging.models import DeadLetter, MessageEvent
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I cannot be shown")


@pytest.fixture(autouse=True)
def memory(use_bus: UseBus) -> None:
    """A bus that has nothing to settle in the handler's transaction."""
    use_bus("memory://")


def delivery(number: int = 1, *, attempt: int = 1, body: bytes = b"", alias: str = "order.placed") -> Delivery:
    body = body or b'{"number": %d}' % number
    return Delivery(Envelope(f"m{number}", alias, 1, body, {}, f"{alias}.p", "billing", attempt), "main", "billing")


def outcomes(*deliveries: Delivery) -> list[str]:
    return [verdict.outcome for verdict in handle("main", "billing", deliveries)]


def write(message: OrderPlaced) -> None:
    InboxEntry.objects.create(fingerprint=f"w{message.number}", handler="wrote", key="", state="processed", claim="")


def written() -> int:
    return InboxEntry.objects.filter(handler="wrote").count()


@pytest.mark.parametrize(
    ("error", "attempt", "expected"),
    [
        (ConnectionError("away"), 1, ("retry", "")),
        (ConnectionError("away"), 4, ("retry", "")),
        (ConnectionError("away"), 5, ("dead", "exhausted")),
        (ConnectionError("away"), 9, ("dead", "exhausted")),
        (ValueError("?"), 1, ("retry", "")),
        (TransientError("later"), 1, ("retry", "")),
        (OperationalError("deadlock"), 1, ("retry", "")),
        (IntegrityError("twice"), 1, ("retry", "")),
        (SystemExit(3), 1, ("retry", "")),
        (KeyboardInterrupt(), 1, ("retry", "")),
        (MemoryError(), 1, ("retry", "")),
        (PermanentError("no"), 1, ("dead", "permanent")),
        (ValidationError("no"), 1, ("dead", "permanent")),
        (PermissionDenied("no"), 1, ("dead", "permanent")),
        (ImproperlyConfigured("no"), 1, ("dead", "permanent")),
        (DataError("no"), 1, ("dead", "permanent")),
        (ProgrammingError("no"), 1, ("dead", "permanent")),
        (UnreadableMessageError("no"), 1, ("dead", "unreadable")),
        (UnhandledMessageError("no"), 1, ("dead", "unhandled")),
        (BusyError("busy"), 9, ("postpone", "")),
        (LeaseLostError("lost"), 9, ("postpone", "")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_an_error_becomes(error: BaseException, attempt: int, expected: tuple[str, str]) -> None:
    def fail(message: OrderPlaced) -> None:
        write(message)
        raise error

    with listening(OrderPlaced, fail, group="billing", max_attempts=5):
        (verdict,) = handle("main", "billing", [delivery(attempt=attempt)])
    assert (verdict.outcome, verdict.reason) == expected
    assert bool(verdict.wait) is (verdict.outcome in ("retry", "postpone"))
    assert written() == 0  # what it had done is undone
    assert not MessageEvent.objects.filter(kind="handled").exists()


def test_an_async_handler_that_is_over_its_soft_limit_is_cancelled() -> None:
    """The signal's exception reaches the thread that waits for it, not the one it runs on."""
    seen: list[str] = []

    async def hang(message: OrderPlaced) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def strike(*_signal: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, strike)
    try:
        handler(OrderPlaced, group="billing", name="tests.hang", soft_time_limit=30)(hang)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        (verdict,) = handle("main", "billing", [delivery()])
    finally:
        handlers.forget("tests.hang")
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (verdict.outcome, seen) == ("retry", ["cancelled"])
    assert verdict.error.startswith("tests.hang was ended: it ran longer than its soft time limit of 30 s.")


@contextmanager
def too_long(*_arguments: Any) -> Iterator[None]:
    raise SoftTimeLimitExceeded
    yield


def test_a_message_whose_time_is_over_before_its_transaction_began_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever kept the database from it is to blame; its neighbours would lose an attempt each time."""
    called: list[int] = []
    monkeypatch.setattr(invocation, "_scope", too_long)
    with listening(OrderPlaced, lambda message: called.append(message.number), group="billing", max_attempts=2):
        (verdict,) = handle("main", "billing", [delivery(1, attempt=2)])
        among_others = outcomes(delivery(1), delivery(2))
    assert (verdict.outcome, bool(verdict.wait), called) == ("postpone", True, [])
    assert "was not called: its transaction could not begin within" in verdict.error
    assert among_others == ["alone", "alone"]


def test_who_waits_for_another_that_writes_has_not_failed_when_the_limit_strikes_meanwhile() -> None:
    """As above, with a lock and a signal: it strikes within the statement that begins the transaction."""
    if connection.vendor != "sqlite":
        pytest.skip("no other database waits to begin")

    def strike(*_signal: object) -> None:
        raise SoftTimeLimitExceeded

    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(1, other.execute, ("ROLLBACK",))
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with listening(OrderPlaced, write, group="billing", max_attempts=1):
            end.start()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            (verdict,) = handle("main", "billing", [delivery(1)])
            assert verdict.outcome == "postpone"
            assert "was not called: its transaction could not begin within" in verdict.error
            assert outcomes(delivery(1)) == ["handled"]  # no transaction is left open, and no lock
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        end.join()
        other.close()
    assert written() == 1


def test_a_message_with_which_a_middleware_takes_too_long_is_given_up_at_last() -> None:
    middleware.register("tests.too_long", too_long, order=1)
    try:
        with listening(OrderPlaced, group="billing", max_attempts=2):
            verdicts = [handle("main", "billing", [delivery(1, attempt=attempt)])[0] for attempt in (1, 2)]
    finally:
        middleware._chain.remove("tests.too_long")
    assert [(verdict.outcome, verdict.reason) for verdict in verdicts] == [("retry", ""), ("dead", "exhausted")]


@pytest.mark.parametrize("deliveries", [[delivery(1)], [delivery(1), delivery(2)]], ids=["alone", "one of two"])
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("how", ["let through", "replaced", "taken for a soft limit", "kept"])
def test_a_process_that_is_told_to_end_ends_whatever_the_handler_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, how: str, atomic: bool, deliveries: list[Delivery]
) -> None:
    """It would take the next message of the pool's queue, and be killed with it."""
    monkeypatch.setattr(common, "_should_have_exited", [False])
    monkeypatch.setattr(common, "maybe_setsignal", lambda *_signal: None)
    handled: list[int] = []

    def told(message: OrderPlaced) -> None:
        handled.append(message.number)
        try:
            common._shutdown_cleanup(signal.SIGTERM, None)
        except SystemExit:
            if how == "replaced":
                raise ValueError("while it cleaned up") from None
            if how == "taken for a soft limit":
                raise SoftTimeLimitExceeded from None
            if how == "let through":
                raise

    with (
        listening(OrderPlaced, told, group="billing", atomic=atomic),
        pytest.raises(ValueError if how == "replaced" else SystemExit),
    ):
        handle("main", "billing", deliveries)
    assert handled == [1]
    assert not InboxEntry.objects.filter(state="processed").exists()


@pytest.mark.parametrize(
    "error",
    [
        Odd(),
        ValueError("nul \x00 and half a character \udcff"),
        ValueError("x" * 100_000),
        type("Long" * 100, (Exception,), {})("x"),
        ExceptionGroup("many", [ValueError(str(number)) for number in range(500)]),
    ],
    ids=["cannot be shown", "cannot be stored", "too long", "long name", "group"],
)
def test_every_error_can_be_written_down_whatever_its_text(error: Exception) -> None:
    def fail(message: OrderPlaced) -> None:
        raise error

    with listening(OrderPlaced, fail, group="billing", max_attempts=1):
        (verdict,) = handle("main", "billing", [delivery()])
    assert len(pickle.dumps(verdict)) < 60_000  # it goes through a pipe
    dead_letter(delivery(), verdict).save()
    dead = DeadLetter.objects.get()
    assert dead.error or dead.traceback


def test_secrets_do_not_reach_the_dead_letter() -> None:
    register_value("hunter2-secret")

    def fail(message: OrderPlaced) -> None:
        raise PermanentError("login with hunter2-secret at amqp://shop:pass-word@h/ failed")

    try:
        with listening(OrderPlaced, fail, group="billing"):
            (verdict,) = handle("main", "billing", [delivery()])
    finally:
        forget_value("hunter2-secret")
    for text in (verdict.error, verdict.traceback):
        assert "failed" in text
        assert "hunter2" not in text
        assert "pass-word" not in text


def test_equal_causes_have_equal_fingerprints() -> None:
    def fail(message: OrderPlaced) -> None:
        if message.number < 3:
            raise ValueError(f"number {message.number}")
        raise ValueError("another place")

    with listening(OrderPlaced, fail, group="billing", max_attempts=1):
        one, two, three = handle("main", "billing", [delivery(number) for number in (1, 2, 3)])
    assert one.fingerprint == two.fingerprint != three.fingerprint


def test_a_message_that_nobody_handles_or_can_read_is_dead_and_its_neighbours_are_not() -> None:
    with listening(OrderPlaced, write, group="billing"):
        deliveries = [delivery(1), delivery(2, body=b"{}"), delivery(3, alias="order.unknown"), delivery(4)]
        verdicts = handle("main", "billing", deliveries)
    assert [(verdict.outcome, verdict.reason) for verdict in verdicts] == [
        ("handled", ""),
        ("dead", "unreadable"),
        ("dead", "unhandled"),
        ("handled", ""),
    ]
    assert "missing required field `number`" in verdicts[1].error
    assert "Deploy the handler and replay" in verdicts[2].error
    assert written() == 2


def test_neighbours_go_to_a_batch_handler_together_and_others_between_them_part_them() -> None:
    sizes: list[int] = []
    with (
        listening(OrderPlaced, lambda messages: sizes.append(len(messages)), group="billing", batch=3),
        listening("stock.#", group="billing"),
    ):
        stock = delivery(9, alias="stock.moved")
        assert set(outcomes(*(delivery(n) for n in range(4)), stock, delivery(5))) == {"handled"}
    assert sizes == [3, 1, 1]


def test_equal_deliveries_of_one_batch_are_handled_once() -> None:
    seen: list[int] = []
    with listening(OrderPlaced, lambda messages: seen.append(len(messages)), group="billing", batch=5):
        assert outcomes(delivery(1), delivery(1), delivery(2)) == ["handled", "duplicate", "handled"]
    assert seen == [2]


def test_a_function_that_only_wraps_a_coroutine_function_is_awaited() -> None:
    done: list[int] = []

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(message: OrderPlaced) -> Any:
            return function(message)

        return wrapper

    @handler(OrderPlaced, group="billing", name="tests.wrapped")
    @logged
    async def receive(message: OrderPlaced) -> None:
        await asyncio.sleep(0)
        done.append(message.number)
        if message.number == 2:
            raise PermanentError("no")

    try:
        assert outcomes(delivery(1), delivery(2)) == ["handled", "dead"]
    finally:
        handlers.forget("tests.wrapped")
    assert done == [1, 2]


def test_an_atomic_handler_runs_in_a_transaction_and_another_does_not() -> None:
    inside: list[bool] = []

    def look(message: OrderPlaced) -> None:
        inside.append(connection.in_atomic_block)

    with listening(OrderPlaced, look, group="billing"):
        handle("main", "billing", [delivery(1)])
    with listening(OrderPlaced, look, group="billing", atomic=False):
        handle("main", "billing", [delivery(2)])
    assert inside == [True, False]


def test_the_end_of_a_call_is_told_once_it_is_committed() -> None:
    """Whoever hears of it may take its time, which no row is locked for."""
    told: list[tuple[str, bool]] = []
    end = subscribe(lambda event: told.append((event.phase, connection.in_atomic_block)), "messaging.handle")
    try:
        with listening(OrderPlaced, write, group="billing"):
            assert outcomes(delivery()) == ["handled"]
    finally:
        end()
    assert told == [("start", False), ("stop", False)]


def test_a_handler_that_breaks_its_transaction_has_not_handled_the_message() -> None:
    def swallow(message: OrderPlaced) -> None:
        write(message)
        with suppress(IntegrityError):
            write(message)

    with listening(OrderPlaced, swallow, group="billing"):
        (verdict,) = handle("main", "billing", [delivery()])
    assert verdict.reason == "permanent"  # the handler will break it again
    assert written() == 0


@pytest.mark.parametrize("then", [lambda: None, written], ids=["nothing more", "another query"])
def test_a_handler_that_closes_the_connection_of_its_transaction_has_not_handled_the_message(
    then: Callable[[], object],
) -> None:
    """Django rolls such a transaction back and says nothing."""

    def close(message: OrderPlaced) -> None:
        write(message)
        connection.close()
        then()

    with listening(OrderPlaced, close, group="billing"):
        (verdict,) = handle("main", "billing", [delivery()])
    assert (verdict.outcome, verdict.error_type.rpartition(".")[2]) == ("retry", "ClosedTransactionError")
    assert written() == 0


def test_work_that_is_done_is_not_done_again_because_its_trail_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(rows: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr("koan_django.messaging.events.record", away)
    with listening(OrderPlaced, write, group="billing", atomic=False):
        assert outcomes(delivery()) == ["handled"]
    assert InboxEntry.objects.get(group="billing").state == "processed"


def test_what_goes_wrong_around_the_handlers_is_looked_at_again_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise NameError("somebody's class cannot be read")

    monkeypatch.setattr(handlers, "find", broken)
    verdicts = handle("main", "billing", [delivery(1), delivery(2)])
    assert [(verdict.outcome, bool(verdict.wait)) for verdict in verdicts] == [("postpone", True)] * 2
    assert "cannot be read" in verdicts[0].error


def test_middleware_wraps_each_call_outermost_first_inside_the_transaction() -> None:
    trace: list[str] = []

    def around(name: str) -> Callable[[middleware.Call], Any]:
        @contextmanager
        def enter(call: middleware.Call) -> Iterator[middleware.Call]:
            trace.append(f"{name} in {connection.in_atomic_block}")
            yield call
            trace.append(f"{name} out")

        return enter

    for name, order in (("inner", 3), ("outer", 2)):
        middleware.register(name, around(name), order=order)
    try:
        with listening(OrderPlaced, lambda message: trace.append("handler"), group="billing"):
            handle("main", "billing", [delivery()])
    finally:
        for name in ("inner", "outer"):
            middleware._chain.remove(name)
    assert trace == ["outer in True", "inner in True", "handler", "inner out", "outer out"]


def test_a_context_says_all_there_is_to_say() -> None:
    seen: list[Context] = []

    @handler(OrderPlaced, group="billing", name="tests.context", max_attempts=2)
    def receive(message: OrderPlaced, context: Context) -> None:
        seen.append(context)

    try:
        handle("main", "billing", [delivery(7, attempt=2)])
    finally:
        handlers.forget("tests.context")
    (context,) = seen
    assert (context.id, context.alias, context.version, context.bus) == ("m7", "order.placed", 1, "main")
    assert (context.group, context.handler, context.attempt, context.max_attempts) == ("billing", "tests.context", 2, 2)
    assert context.is_last_attempt
    assert "headers" not in repr(context)


def test_attempts_wait_longer_each_time_and_at_most_as_long_as_the_policy_says() -> None:
    with listening(OrderPlaced, group="billing", max_attempts=9):
        found = handlers.find("main", "billing", "order.placed")
        waits = [failed(delivery(attempt=attempt), found, ValueError()).wait.total_seconds() for attempt in (1, 2, 8)]
    assert waits == [0.2, 0.2, 0.2]  # the policy of the tests: fixed, without jitter


def test_a_verdict_holds_plain_values() -> None:
    with transaction.atomic():
        verdict = Verdict("dead", "h", "permanent", "E", "e", "t")
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_what_goes_well_crosses_back_as_one_verdict() -> None:
    with listening(OrderPlaced, group="billing"):
        verdicts = handle("main", "billing", [delivery(number) for number in range(50)])
    assert {verdict.outcome for verdict in verdicts} == {"handled"}
    assert len({id(verdict) for verdict in verdicts}) == 1
    assert len(pickle.dumps(verdicts)) < 1000


@pytest.mark.parametrize("protocol", [2, pickle.DEFAULT_PROTOCOL])
def test_a_delivery_crosses_to_a_child_whole_and_without_the_names_of_its_fields(protocol: int) -> None:
    envelope = Envelope("m1", "order.placed", 2, b"{}", {"a": "b"}, "order.placed.p3", "billing", 4, 5)
    sent = Delivery(envelope, "main", "billing", ref=("r", 1), token=6, partition=3)
    crossed = pickle.dumps(sent, protocol)
    assert pickle.loads(crossed) == sent
    assert b"routing_key" not in crossed
    assert b"partition" not in crossed
