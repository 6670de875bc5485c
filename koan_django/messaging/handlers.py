"""``@handler``: who receives what, in which group."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from koan_django.core.breaker import Breaker, breakers
from koan_django.core.circuits import BreakerPolicy
from koan_django.core.exceptions import RegistrationError
from koan_django.core.registry import origin_of, place_of
from koan_django.core.retry import RetryPolicy

from .conf import options
from .handling.limits import Limits, combined, duration
from .messages import Message, has_partition_key
from .objections import BREAKER_PREFIX, breaker_objections, limit_objections, objections, positional
from .routing import matches, specificity

if TYPE_CHECKING:
    from .envelope import Context, Envelope

#: What becomes of a message of an ordered group that cannot be handled: set aside, or kept until somebody decides.
OnFailure = Literal["skip", "stop"]

X = TypeVar("X")
M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Awaitable[None] | None)


@dataclass(frozen=True, slots=True)
class Handler:
    """One registered handler. ``name`` is its identity in the inbox: ``module.qualname`` unless it was pinned."""

    name: str
    function: Callable[..., Any]
    message: type[Message] | None
    pattern: str
    declared_group: str | None
    declared_bus: str | None
    batch: int | None
    atomic: bool
    max_attempts: int | None
    declared_retry: RetryPolicy | None
    time_limit: timedelta | None
    soft_time_limit: timedelta | None
    declared_ordered: bool | None
    on_failure: OnFailure
    pinned: bool
    takes_context: bool
    origin: str
    breaker: Breaker | None = None

    @property
    def group(self) -> str:
        """The group it belongs to."""
        return self.declared_group or options().default_group

    @property
    def bus(self) -> str:
        """The bus it listens on: its own, its message's, or the default one."""
        if self.declared_bus:
            return self.declared_bus
        return (self.message._meta.bus if self.message else None) or options().default_bus

    @property
    def binding(self) -> str:
        """The alias or pattern it receives."""
        return self.message._meta.alias if self.message else self.pattern

    @property
    def attempts(self) -> int:
        """How often a message is tried before it is a dead letter."""
        return self.max_attempts or self.retry.max_attempts

    @property
    def retry(self) -> RetryPolicy:
        """Its own policy, or that of its bus."""
        return self.declared_retry or options().buses[self.bus].retry

    @property
    def limits(self) -> Limits:
        """How long one call may take: its own limits, else those of its bus."""
        bus = options().buses[self.bus]
        return combined(self.soft_time_limit or bus.soft_time_limit, self.time_limit or bus.time_limit)

    @property
    def ordered(self) -> bool:
        """Whether messages of one partition key are handled in order: if it says so, or may receive one with a key."""
        if self.declared_ordered is not None:
            return self.declared_ordered
        return has_partition_key(self.receives)

    def receives(self, alias: str) -> bool:
        """Whether a message with ``alias`` is for this handler."""
        return self.binding == alias or (self.message is None and matches(self.pattern, alias))


class Accepts(Generic[X]):
    """What ``handler(...)`` returns: it decorates functions of ``X``, or of ``X`` and a :class:`Context`."""

    def __init__(self, register: Callable[[Callable[..., Any]], None]) -> None:
        self._register = register

    @overload
    def __call__(self, function: Callable[[X], R], /) -> Callable[[X], R]: ...
    @overload
    def __call__(self, function: Callable[[X, Context], R], /) -> Callable[[X, Context], R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Callable[..., Any]:
        """Register ``function`` and return it unchanged."""
        self._register(function)
        return function


_handlers: dict[str, Handler] = {}


@overload
def handler(
    message: type[M],
    *,
    group: str | None = ...,
    bus: str | None = ...,
    name: str | None = ...,
    batch: None = ...,
    atomic: bool = ...,
    max_attempts: int | None = ...,
    retry: RetryPolicy | None = ...,
    time_limit: float | timedelta | None = ...,
    soft_time_limit: float | timedelta | None = ...,
    breaker: BreakerPolicy | bool = ...,
    ordered: bool | None = ...,
    on_failure: OnFailure = ...,
) -> Accepts[M]: ...
@overload
def handler(
    message: type[M],
    *,
    group: str | None = ...,
    bus: str | None = ...,
    name: str | None = ...,
    batch: int,
    atomic: bool = ...,
    max_attempts: int | None = ...,
    retry: RetryPolicy | None = ...,
    time_limit: float | timedelta | None = ...,
    soft_time_limit: float | timedelta | None = ...,
    breaker: BreakerPolicy | bool = ...,
    ordered: bool | None = ...,
    on_failure: OnFailure = ...,
) -> Accepts[list[M]]: ...
@overload
def handler(
    message: str,
    *,
    group: str | None = ...,
    bus: str | None = ...,
    name: str | None = ...,
    batch: None = ...,
    atomic: bool = ...,
    max_attempts: int | None = ...,
    retry: RetryPolicy | None = ...,
    time_limit: float | timedelta | None = ...,
    soft_time_limit: float | timedelta | None = ...,
    breaker: BreakerPolicy | bool = ...,
    ordered: bool | None = ...,
    on_failure: OnFailure = ...,
) -> Accepts[Envelope]: ...
@overload
def handler(
    message: str,
    *,
    group: str | None = ...,
    bus: str | None = ...,
    name: str | None = ...,
    batch: int,
    atomic: bool = ...,
    max_attempts: int | None = ...,
    retry: RetryPolicy | None = ...,
    time_limit: float | timedelta | None = ...,
    soft_time_limit: float | timedelta | None = ...,
    breaker: BreakerPolicy | bool = ...,
    ordered: bool | None = ...,
    on_failure: OnFailure = ...,
) -> Accepts[list[Envelope]]: ...
def handler(
    message: type[Message] | str,
    *,
    group: str | None = None,
    bus: str | None = None,
    name: str | None = None,
    batch: int | None = None,
    atomic: bool = True,
    max_attempts: int | None = None,
    retry: RetryPolicy | None = None,
    time_limit: float | timedelta | None = None,
    soft_time_limit: float | timedelta | None = None,
    breaker: BreakerPolicy | bool = False,
    ordered: bool | None = None,
    on_failure: OnFailure = "skip",
) -> Accepts[Any]:
    """Receive a message class, or every alias that a pattern matches, in ``group``.

    Each group gets a copy of a message; within a group one handler gets it. ``batch`` hands over lists of up to that
    many, in one transaction. ``atomic=False`` is for long work: it runs outside a transaction, claimed by a lease
    when the inbox is installed. ``retry`` is its own policy in place of the bus's, ``max_attempts`` no more than
    another number of attempts. ``name`` pins the identity under which the inbox remembers it.

    One call may take ``time_limit`` (seconds or a duration); then its process is killed. ``soft_time_limit``, which is
    shorter, raises :class:`celery.exceptions.SoftTimeLimitExceeded` in it. Prefork pools alone can do either.
    ``breaker`` keeps messages back in all workers while the handler fails by transient errors.

    A group is ordered when one of its handlers is: by default when it may receive messages with a partition key. Such a
    message is tried again in its place, and those behind it wait. ``on_failure`` says what happens after its last
    attempt: ``"skip"`` makes it a dead letter and goes on, ``"stop"`` keeps its partition until somebody decides.
    """
    if inspect.isroutine(message):
        raise RegistrationError(
            f"{origin_of(message)} cannot be a handler",
            why="the decorator was not told of which message",
            fix='Write @handler(OrderPaid, group="shipping") with your own message and group.',
        )
    hard, soft = duration(time_limit), duration(soft_time_limit)

    def register(function: Callable[..., Any]) -> None:
        described = _described(
            function,
            message,
            group,
            bus,
            name,
            batch,
            atomic,
            max_attempts,
            retry,
            hard,
            soft,
            breaker,
            ordered,
            on_failure,
        )
        _add(described)

    return Accepts(register)


def every() -> list[Handler]:
    """Return all handlers, in the order of their declaration."""
    return list(_handlers.values())


def named(name: str) -> Handler | None:
    """Return the handler called ``name``."""
    return _handlers.get(name)


def on_bus(bus: str) -> dict[str, list[Handler]]:
    """Return the handlers that listen on ``bus``, by group."""
    groups: dict[str, list[Handler]] = {}
    for known in _handlers.values():
        if known.bus == bus:
            groups.setdefault(known.group, []).append(known)
    return groups


def ordered_on(bus: str) -> frozenset[str]:
    """Return the groups on ``bus`` that handle the messages of a partition key in order."""
    return frozenset(group for group, members in on_bus(bus).items() if any(member.ordered for member in members))


def groups_for(bus: str, alias: str) -> list[str]:
    """Return the groups on ``bus`` that receive ``alias``, each once."""
    found = (known.group for known in _handlers.values() if known.bus == bus and known.receives(alias))
    return list(dict.fromkeys(found))


def find(bus: str, group: str, alias: str) -> Handler | None:
    """Return the handler of ``alias`` in ``group``: the one of the class, else of the most specific pattern."""
    candidates = [known for known in on_bus(bus).get(group, ()) if known.receives(alias)]
    return max(candidates, key=lambda c: (c.binding == alias, specificity(c.binding)), default=None)


def forget(name: str) -> None:
    """Remove a handler; for tests."""
    gone = _handlers.pop(name, None)
    if gone is not None and gone.breaker is not None:
        breakers.remove(gone.breaker.name)


def _add(described: Handler) -> None:
    known = _handlers.get(described.name)
    if known is not None:
        _compare(known, described)
    _handlers[described.name] = described
    if described.breaker is not None:
        breakers.add(described.breaker.name, described.breaker, origin=described.origin)


def _compare(known: Handler, described: Handler) -> None:
    """Refuse a second of one name, of which one would never run. A reload defines the same at the same place."""
    first, second = place_of(known.function), place_of(described.function)
    if known.function == described.function:
        if _purpose(known) != _purpose(described):
            raise RegistrationError(
                f"the handler {described.name!r} is declared twice",
                why=f"{first} is one function, and a handler has one message or pattern, one group and one bus",
                fix="Give one of the two declarations a name=.",
            )
    elif first != second or _purpose(known)[0] != _purpose(described)[0]:
        raise RegistrationError(
            f"two handlers are called {described.name!r}",
            why=f"{first} and {second}",
            fix="Give one of them another name, or name=. After a reload of an edited file, start the process anew.",
        )


def _purpose(handler: Handler) -> tuple[str, str | None, str | None]:
    """What it is for. A message is told by its class: aliases may not be known yet."""
    received = handler.pattern if handler.message is None else origin_of(handler.message)
    return received, handler.declared_group, handler.declared_bus


def _described(
    function: Callable[..., Any],
    message: type[Message] | str,
    group: str | None,
    bus: str | None,
    name: str | None,
    batch: int | None,
    atomic: bool,
    max_attempts: int | None,
    retry: RetryPolicy | None,
    time_limit: timedelta | None,
    soft_time_limit: timedelta | None,
    breaker: BreakerPolicy | bool,
    ordered: bool | None,
    on_failure: OnFailure,
) -> Handler:
    origin = origin_of(function)
    found = objections(function, message, group, name or origin, batch, atomic, max_attempts, retry, on_failure)
    limits = limit_objections(time_limit, soft_time_limit)
    for why in chain(found, limits, breaker_objections(breaker, name or origin)):
        raise RegistrationError(f"{origin} cannot be a handler", why=why)
    return Handler(
        name=name or origin,
        function=function,
        message=None if isinstance(message, str) else message,
        pattern=message if isinstance(message, str) else "",
        declared_group=group,
        declared_bus=bus,
        batch=batch,
        atomic=atomic,
        max_attempts=max_attempts,
        declared_retry=retry,
        time_limit=time_limit,
        soft_time_limit=soft_time_limit,
        declared_ordered=ordered,
        on_failure=on_failure,
        pinned=name is not None,
        takes_context=len(positional(function)) == 2,
        origin=origin,
        breaker=_breaker(name or origin, breaker),
    )


def _breaker(name: str, wanted: BreakerPolicy | bool) -> Breaker | None:
    if not wanted:
        return None
    return Breaker(f"{BREAKER_PREFIX}{name}", BreakerPolicy() if wanted is True else wanted)


def overlaps(one: Handler, other: Handler) -> bool:
    """Whether both would receive the same alias in the same group with nothing to choose between them."""
    return (one.bus, one.group, one.binding) == (other.bus, other.group, other.binding)
