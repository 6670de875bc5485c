"""Runs handlers, in a child of the worker's pool or wherever deliveries are handled.

:func:`handle` raises in a process that has been told to end, and nowhere else: the thread pool of Celery would lose the
whole batch, and the solo pool its worker.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from koan_django.core import faults
from koan_django.core.context import restore
from koan_django.core.databases import keep_usable, renew
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.telemetry import span
from koan_django.messaging import envelope as wire
from koan_django.messaging import events, handlers
from koan_django.messaging.buses import registry
from koan_django.messaging.envelope import Context, Delivery
from koan_django.messaging.exceptions import UnhandledMessageError, UnreadableMessageError
from koan_django.messaging.handlers import Handler
from koan_django.messaging.ordering.lines import OVER

from .awaiting import wait_for
from .containment import contained
from .ending import is_told_to_end
from .limits import exceeded, noted
from .middleware import Call, applied
from .verdicts import Verdict, failed, postponed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koan_django.messaging.messages import Message


logger = logging.getLogger(__name__)
_BEFORE_COMMIT = faults.point("messaging.handle.before_commit")
_COMMITTED = faults.point("messaging.handle.committed")
_NO_SCOPE = nullcontext()
#: The database or a store is away: no fault of the message.
_AWAY = (OperationalError, InterfaceError, StoreUnavailableError)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A delivery with what its handler takes: a message, or the envelope for a pattern."""

    index: int
    delivery: Delivery
    value: Any


@dataclass(slots=True)
class _Run:
    """One call of a handler. ``called`` once it really was: what failed before that is not its failure.

    ``begun`` once its transaction is, if it has one. ``alone`` when it is all of its batch: then a time limit that is
    exceeded after that is its own fault.
    """

    bus: str
    group: str
    handler: Handler
    pieces: list[_Piece]
    called: bool = False
    begun: bool = False
    alone: bool = False
    #: Its time limit in seconds, looked up once for a batch.
    limit: float | None = None


def handle(bus: str, group: str, deliveries: Sequence[Delivery]) -> list[Verdict]:
    """Run the handlers of ``group`` for ``deliveries``, in order; return a verdict for each.

    Within a partition nothing runs that comes after a message which is not over: its verdict is ``again``.

    Raises:
        BaseException: what became of the signal by which the pool ends this process, mostly a SystemExit. Whoever holds
            the deliveries decides what becomes of them.
    """
    verdicts: dict[int, Verdict] = {}
    behind: set[int] = set()
    began = time.perf_counter()
    rest = Verdict("again")
    try:
        keep_usable()
        for run in _runs(bus, group, deliveries, verdicts, behind):
            _perform(run, verdicts, behind)
    except SoftTimeLimitExceeded:  # of all of them together: each gets its time in a batch of its own
        renew()
        rest = Verdict("alone")
    except BaseException as error:
        if is_told_to_end():
            raise
        logger.exception("Handling ended early; what was not run is looked at again in a moment")
        rest = postponed(None, error)
    if is_told_to_end():  # the handler made something else of it
        raise SystemExit(1)
    each = (time.perf_counter() - began) / max(len(deliveries), 1)
    timed = cache(partial(replace, seconds=each))  # most of a batch are the same, and one crosses to the parent
    return [timed(verdicts.get(index, rest)) for index in range(len(deliveries))]


def _runs(
    bus: str, group: str, deliveries: Sequence[Delivery], verdicts: dict[int, Verdict], behind: set[int]
) -> Iterator[_Run]:
    """Yield the calls to make: one for each message, or for neighbours that go to the same batch handler."""
    run: _Run | None = None
    find = cache(partial(_found, bus, group))  # most of a batch have the same alias
    for index, delivery in enumerate(deliveries):
        found, limit = find(delivery.envelope.alias)
        if run is not None and (found is not run.handler or len(run.pieces) >= (found.batch or 1)):
            yield run
            run = None
        if delivery.partition in behind:
            continue
        try:
            piece = _Piece(index, delivery, _read(delivery, found))
        except Exception as error:
            if run is not None:  # what came before it comes first
                yield run
                run = None
            if delivery.partition not in behind:
                _note(verdicts, index, delivery, failed(delivery, found, error), behind)
            continue
        assert found is not None  # or it could not be read
        run = run or _Run(bus, group, found, [], alone=len(deliveries) == 1, limit=limit)
        run.pieces.append(piece)
    if run is not None:
        yield run


def _found(bus: str, group: str, alias: str) -> tuple[Handler | None, float | None]:
    found = handlers.find(bus, group, alias)
    return found, found.limits.first if found else None


def _read(delivery: Delivery, found: Handler | None) -> Any:
    if found is None:
        raise UnhandledMessageError(
            f"the group {delivery.group!r} has no handler for {delivery.envelope.alias!r}",
            why="the handler was removed, or this worker runs other code than the sender",
            fix="Deploy the handler and replay the dead letter.",
        )
    size, most = len(delivery.envelope.body), registry.get(delivery.bus).options.max_body
    if size > most:
        raise UnreadableMessageError(
            f"the body of this {delivery.envelope.alias} is not read",
            why=f"it has {size} bytes, and MAX_BODY of the bus {delivery.bus!r} is {most}",
            fix="Have the sender store what is large; or raise MAX_BODY, and replay the dead letter.",
        )
    return delivery.envelope.decode(found.message) if found.message else delivery.envelope


def _perform(run: _Run, verdicts: dict[int, Verdict], behind: set[int]) -> None:
    try:
        verdicts |= _attempt(run)
    except SoftTimeLimitExceeded as error:
        if not run.alone:
            raise
        renew()
        index, delivery = run.pieces[0].index, run.pieces[0].delivery
        late = exceeded(run.handler, soft=True, begun=run.begun).with_traceback(error.__traceback__)
        # Before that somebody else kept the database: no failure of this message.
        verdicts[index] = failed(delivery, run.handler, late) if run.begun else postponed(run.handler, late)
    except BaseException as error:
        if is_told_to_end():
            raise
        if not run.called and isinstance(error, _AWAY):
            for piece in run.pieces:
                _note(verdicts, piece.index, piece.delivery, postponed(run.handler, error), behind)
        elif len(run.pieces) > 1:  # one bad message must not condemn its batch
            for piece in run.pieces:
                if piece.delivery.partition not in behind:
                    _perform(replace(run, pieces=[piece], called=False, begun=False), verdicts, behind)
        else:
            delivery = run.pieces[0].delivery
            _note(verdicts, run.pieces[0].index, delivery, failed(delivery, run.handler, error), behind)


def _note(verdicts: dict[int, Verdict], index: int, delivery: Delivery, verdict: Verdict, behind: set[int]) -> None:
    """Keep a verdict that is not good; what is behind the message in its partition waits unless it is over."""
    verdicts[index] = verdict
    if delivery.partition is not None and verdict.outcome not in OVER:
        behind.add(delivery.partition)


def _attempt(run: _Run) -> dict[int, Verdict]:
    """Make one call and return its verdicts; everything an atomic handler did is undone when it raises."""
    handler = run.handler
    call = Call(run.bus, run.group, handler, tuple(piece.delivery for piece in run.pieces))
    context = call.deliveries[0].envelope.context()
    # The span is around the transaction: whoever hears of its end must find it committed, and no locks held meanwhile.
    with restore(context), span("messaging.handle", **_metadata(call)) as outcome, _scope(handler):
        run.begun = True
        began = time.perf_counter()
        with applied(call) as kept:
            fresh = run.pieces if kept is call else _kept(run.pieces, kept)
            if fresh:
                _invoke(run, fresh)
            duration = time.perf_counter() - began
            if handler.atomic:
                registry.get(run.bus).complete(call.deliveries)
                _record(run, fresh, duration)
                _BEFORE_COMMIT()
        if not handler.atomic:
            _record_done(run, fresh, duration)
        outcome["duplicates"] = len(run.pieces) - len(fresh)
    _COMMITTED()
    good = dict.fromkeys((piece.index for piece in run.pieces), Verdict("duplicate", handler.name))
    return good | dict.fromkeys((piece.index for piece in fresh), Verdict("handled", handler.name))


def _kept(pieces: list[_Piece], call: Call) -> list[_Piece]:
    """Return what is left to be done; by identity, since two deliveries of a batch may be equal."""
    chosen = {id(delivery) for delivery in call.deliveries}
    return [piece for piece in pieces if id(piece.delivery) in chosen]


def _scope(handler: Handler) -> AbstractContextManager[object]:
    return transaction.atomic() if handler.atomic else _NO_SCOPE


def _invoke(run: _Run, pieces: list[_Piece]) -> None:
    run.called = True
    handler = run.handler
    argument: Message | list[Any] = [piece.value for piece in pieces] if handler.batch else pieces[0].value
    arguments = (argument, _context(handler, pieces[0].delivery)) if handler.takes_context else (argument,)
    with noted(run.bus, handler, pieces[0].delivery, run.limit), contained(handler.name):
        result = handler.function(*arguments)
        if isawaitable(result):  # also of a function that only wraps a coroutine function
            wait_for(result)


def _context(handler: Handler, delivery: Delivery) -> Context:
    envelope = delivery.envelope
    return Context(
        id=envelope.id,
        alias=envelope.alias,
        version=envelope.version,
        bus=delivery.bus,
        group=delivery.group,
        handler=handler.name,
        attempt=envelope.attempt,
        max_attempts=handler.attempts,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        tenant=envelope.tenant,
        sent_at=envelope.sent_at,
        headers=envelope.headers,
    )


def _record(run: _Run, fresh: list[_Piece], duration: float) -> None:
    """Note what was handled, in the handler's transaction if it has one."""
    done = {piece.index for piece in fresh}
    events.record(
        events.event(
            "handled" if piece.index in done else "duplicate",
            run.bus,
            piece.delivery.envelope,
            group=run.group,
            handler=run.handler.name,
            duration=duration / len(run.pieces) if piece.index in done else None,
        )
        for piece in run.pieces
    )


def _record_done(run: _Run, fresh: list[_Piece], duration: float) -> None:
    """Note what was handled outside a transaction. It is done: a trail that fails must not have it done again."""
    try:
        _record(run, fresh, duration)
    except DatabaseError:
        logger.exception("%d messages were handled and their events not written", len(run.pieces))


def _metadata(call: Call) -> dict[str, Any]:
    first = call.deliveries[0].envelope
    link = first.headers.get(wire.LINK)
    return ({"link": link} if link else {}) | {
        "alias": first.alias,
        "bus": call.bus,
        "group": call.group,
        "handler": call.handler.name,
        "attempt": first.attempt,
        "messages": len(call.deliveries),
    }
