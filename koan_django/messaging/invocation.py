"""Runs handlers, in a child of the worker's pool or wherever deliveries are handled.

:func:`handle` never raises: the thread pool of Celery would lose the whole batch, and the solo pool its worker.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.db import transaction

from koan_django.core.context import restore
from koan_django.core.databases import keep_usable
from koan_django.core.telemetry import span

from . import events, handlers
from .buses import registry
from .envelope import Context, Delivery
from .exceptions import UnhandledMessageError
from .middleware import Call, applied
from .verdicts import Verdict, failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .handlers import Handler
    from .messages import Message


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A delivery with what its handler takes: a message, or the envelope for a pattern."""

    index: int
    delivery: Delivery
    value: Any


def handle(bus: str, group: str, deliveries: Sequence[Delivery]) -> list[Verdict]:
    """Run the handlers of ``group`` for ``deliveries``, in order; return a verdict for each."""
    verdicts: list[Verdict] = [Verdict("again")] * len(deliveries)
    began = time.perf_counter()
    try:
        keep_usable()
        _handle(bus, group, deliveries, verdicts)
    except BaseException:
        logger.exception("Handling ended early; what was not run is handed out again")
    each = (time.perf_counter() - began) / max(len(deliveries), 1)
    return [replace(verdict, seconds=each) for verdict in verdicts]


def _handle(bus: str, group: str, deliveries: Sequence[Delivery], verdicts: list[Verdict]) -> None:
    waiting: list[_Piece] = []
    current: Handler | None = None
    for index, delivery in enumerate(deliveries):
        found = handlers.find(bus, group, delivery.envelope.alias)
        piece = _read(index, delivery, found, verdicts)
        if piece is None or found is None:
            continue
        if waiting and (found is not current or len(waiting) >= (found.batch or 1)):
            _run(bus, group, current, waiting, verdicts)
            waiting = []
        current = found
        waiting.append(piece)
    if waiting:
        _run(bus, group, current, waiting, verdicts)


def _read(index: int, delivery: Delivery, found: Handler | None, verdicts: list[Verdict]) -> _Piece | None:
    """Decode a delivery, or put down why it cannot be handled."""
    try:
        if found is None:
            raise UnhandledMessageError(
                f"the group {delivery.group!r} has no handler for {delivery.envelope.alias!r}",
                why="the handler was removed, or this worker runs other code than the sender",
                fix="Deploy the handler and replay the dead letter.",
            )
        value = delivery.envelope.decode(found.message) if found.message else delivery.envelope
        return _Piece(index, delivery, value)
    except Exception as error:
        verdicts[index] = failed(delivery, found, error)
        return None


def _run(bus: str, group: str, handler: Handler | None, pieces: list[_Piece], verdicts: list[Verdict]) -> None:
    assert handler is not None
    try:
        verdicts_of_call = _attempt(bus, group, handler, pieces)
    except BaseException as error:
        if len(pieces) > 1:  # one bad message must not condemn its batch
            for piece in pieces:
                _run(bus, group, handler, [piece], verdicts)
            return
        verdicts_of_call = {pieces[0].index: failed(pieces[0].delivery, handler, error)}
    for index, verdict in verdicts_of_call.items():
        verdicts[index] = verdict


def _attempt(bus: str, group: str, handler: Handler, pieces: list[_Piece]) -> dict[int, Verdict]:
    """Make one call and return its verdicts; everything it did is undone when it raises."""
    call = Call(bus, group, handler, tuple(piece.delivery for piece in pieces))
    first = call.deliveries[0].envelope
    with restore(first.context()), _scope(handler), span("messaging.handle", **_metadata(call)) as outcome:
        began = time.perf_counter()
        with applied(call) as kept:
            chosen = [piece for piece in pieces if piece.delivery in kept.deliveries]
            if chosen:
                _invoke(handler, chosen)
            if handler.atomic:
                registry.get(bus).complete(call.deliveries)
            fresh = {piece.index for piece in chosen}
            _record(bus, handler, pieces, fresh, time.perf_counter() - began)
        outcome["duplicates"] = len(pieces) - len(fresh)
    return {piece.index: Verdict("handled" if piece.index in fresh else "duplicate", handler.name) for piece in pieces}


@contextmanager
def _scope(handler: Handler) -> Iterator[None]:
    if handler.atomic:
        with transaction.atomic():
            yield
    else:
        yield


def _invoke(handler: Handler, pieces: list[_Piece]) -> None:
    argument: Message | list[Any] = [piece.value for piece in pieces] if handler.batch else pieces[0].value
    arguments = (argument, _context(handler, pieces[0].delivery)) if handler.takes_context else (argument,)
    if handler.is_async:
        async_to_sync(handler.function)(*arguments)
    else:
        handler.function(*arguments)


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


def _record(bus: str, handler: Handler, pieces: list[_Piece], fresh: set[int], duration: float) -> None:
    """Note what was handled, in the handler's transaction if it has one."""
    events.record(
        events.event(
            "handled" if piece.index in fresh else "duplicate",
            bus,
            replace(piece.delivery.envelope, group=piece.delivery.group),
            handler=handler.name,
            duration=duration / len(pieces) if piece.index in fresh else None,
        )
        for piece in pieces
    )


def _metadata(call: Call) -> dict[str, Any]:
    first = call.deliveries[0].envelope
    return {
        "alias": first.alias,
        "bus": call.bus,
        "group": call.group,
        "handler": call.handler.name,
        "attempt": first.attempt,
        "messages": len(call.deliveries),
    }
