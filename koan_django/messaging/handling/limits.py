"""How long a handler may take, and which of those that run in this process take longer.

A prefork pool ends what overruns: the soft limit raises in the handler, the hard one kills the child. Threads cannot be
ended from outside, so there a handler that is over its time is only told of.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from koan_django.core import facts
from koan_django.core.exceptions import RegistrationError
from koan_django.messaging.exceptions import TimeLimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handlers import Handler


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one call of a handler, in seconds; ``None`` is no limit."""

    soft: float | None = None
    hard: float | None = None

    @property
    def first(self) -> float | None:
        """The one that is reached first."""
        return self.hard if self.soft is None else self.soft


NO_LIMITS = Limits()
_UNLIMITED = nullcontext()


@dataclass(frozen=True, slots=True)
class Overdue:
    """A call that is over its limit and still runs."""

    handler: str
    message_id: str
    limit: float

    def __str__(self) -> str:
        return f"{self.handler} is over its time limit of {self.limit:g} s with the message {self.message_id}"


@dataclass(frozen=True, slots=True)
class _Call:
    bus: str
    handler: str
    message_id: str
    limit: float
    ends: float


#: What runs in this process and has a limit, by thread.
_calls: dict[int, _Call] = {}


def duration(given: float | timedelta | None) -> timedelta | None:
    """Return ``given`` as a duration; a number is in seconds. Raises :class:`RegistrationError` for anything else."""
    if given is None or isinstance(given, timedelta):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise RegistrationError(f"{given!r} is no time limit", fix="Give seconds as a number, or a timedelta.")
    return timedelta(seconds=given)


@lru_cache(maxsize=256)  # it is asked for each message
def combined(soft: timedelta | None, hard: timedelta | None) -> Limits:
    """Return the limits; a soft one that the hard one makes pointless is left out."""
    if soft is not None and hard is not None and soft >= hard:
        soft = None
    return Limits(_seconds(soft), _seconds(hard))


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()


def noted(bus: str, handler: Handler, delivery: Delivery, limit: float | None) -> AbstractContextManager[None]:
    """Know of a call of ``handler`` for as long as the block runs, if it has a limit in seconds."""
    return _UNLIMITED if limit is None else _noted(bus, handler, delivery, limit)


@contextmanager
def _noted(bus: str, handler: Handler, delivery: Delivery, limit: float) -> Iterator[None]:
    thread = threading.get_ident()
    _calls[thread] = _Call(bus, handler.name, delivery.envelope.id, limit, time.monotonic() + limit)
    try:
        yield
    finally:
        _calls.pop(thread, None)


def overdue(bus: str) -> list[Overdue]:
    """Return the calls for ``bus`` in this process that are over their limit."""
    now = time.monotonic()
    late = [call for call in tuple(_calls.values()) if call.bus == bus and call.ends < now]
    return [Overdue(call.handler, call.message_id, call.limit) for call in late]


def announce(*, enforced: bool) -> None:
    """Record, and where they are not enforced log, what the limits of this process's handlers are worth."""
    from koan_django.messaging import handlers

    limited = [known for known in handlers.every() if known.limits.first is not None]
    if not limited:
        return
    names = ", ".join(f"{known.name} ({known.limits.first:g} s)" for known in limited)
    if enforced:
        facts.record(facts.Fact("messaging.limits", "enforced", f"the prefork pool ends its children: {names}"))
        return
    why = f"this pool cannot end a handler; one that is over its time is a degraded health fact: {names}"
    facts.record(facts.Fact("messaging.limits", "watched only", why))
    logger.warning("Time limits are not enforced: %s", why)


def exceeded(handler: Handler | None, *, soft: bool, begun: bool = True) -> TimeLimitError:
    """Return the error of a message whose handler took too long, or whose time was over before it could begin."""
    limits = handler.limits if handler else NO_LIMITS
    limit = limits.soft if soft else limits.hard
    which = "soft time limit" if soft else "time limit"
    whose = f"its {which} of {limit:g} s" if limit else f"the worker's own {which}"
    name = handler.name if handler else "a handler"
    if not begun:
        return TimeLimitError(
            f"{name} was not called",
            why=f"its transaction could not begin within {whose}",
            fix="Find who keeps the database from it, or raise the limit.",
        )
    return TimeLimitError(
        f"{name} was ended", why=f"it ran longer than {whose}", fix="Find what it waits for, or raise the limit."
    )
