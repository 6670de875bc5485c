"""The inbox around the message handlers: claims first, in the handler's transaction or under a lease."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from django.db import DEFAULT_DB_ALIAS

from koan_django.core.telemetry import emit
from koan_django.messaging.exceptions import BusyError

from .claiming import claiming, committing
from .exceptions import InboxBusyError
from .scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.middleware import Call


@contextmanager
def inbox(call: Call) -> Iterator[Call]:
    """Leave out of the call what was handled before."""
    scopes = [scope_of(call, delivery) for delivery in call.deliveries]
    if call.handler.atomic and (store := committing(DEFAULT_DB_ALIAS)) is not None:
        # As claiming() would, without its block: most messages come this way, and nothing is to be given back.
        try:
            fresh = store.claim(scopes)
        except InboxBusyError as error:
            raise _busy(call) from error
        yield call if all(fresh) else _left(call, fresh)
        return
    with ExitStack() as stack:
        try:
            fresh = stack.enter_context(claiming(scopes, using=DEFAULT_DB_ALIAS if call.handler.atomic else None))
        except InboxBusyError as error:
            raise _busy(call) from error
        yield call if all(fresh) else _left(call, fresh)


def _left(call: Call, fresh: list[bool]) -> Call:
    """What is left of ``call`` without its duplicates."""
    kept = tuple(delivery for delivery, is_fresh in zip(call.deliveries, fresh, strict=True) if is_fresh)
    emit("inbox.duplicate", handler=call.handler.name, messages=len(call.deliveries) - len(kept))
    return replace(call, deliveries=kept)


def _busy(call: Call) -> BusyError:
    return BusyError(
        f"{call.deliveries[0].envelope.alias} is being handled by another worker",
        why="its inbox lease is held",
        fix="Nothing: it is looked at again in a moment.",
    )


def scope_of(call: Call, delivery: Delivery) -> Scope:
    """Return what makes ``delivery`` a duplicate for this handler."""
    envelope = delivery.envelope
    return Scope(envelope.tenant, call.bus, call.group, call.handler.name, envelope.alias, envelope.idempotency_key)
