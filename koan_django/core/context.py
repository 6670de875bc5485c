"""What travels with a piece of work: correlation, causation, tenant and trace.

The values live in context variables, so they follow ``await`` by themselves. :func:`bind` carries them into a thread,
:func:`snapshot` and :func:`restore` carry them through message headers and Celery tasks.
"""

from __future__ import annotations

import contextvars
import os
import re
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

P = ParamSpec("P")
R = TypeVar("R")

#: Ends up in object keys, headers, secret paths and logs, so only what is safe in all of them.
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
#: https://www.w3.org/TR/trace-context/#traceparent-header, version 00
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: https://www.w3.org/TR/trace-context/#tracestate-header; what it says beyond that is the tracing systems' own.
_TRACESTATE = re.compile(r"[\x20-\x7e\t]{1,512}")
#: One member: https://www.w3.org/TR/baggage/#header-content, and what everybody must be able to carry on.
_BAGGAGE = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,4096}[ \t]*=[ \t]*[^\x00-\x20\x7f\",;\\]*(?:[ \t]*;[\x20-\x7e\t]*)?"
)
BAGGAGE_BYTES, BAGGAGE_MEMBERS = 8192, 180


class ContextValue:
    """One value of the current context."""

    def __init__(self, name: str, pattern: re.Pattern[str]) -> None:
        self.name = name
        self._pattern = pattern
        self._variable: contextvars.ContextVar[str | None] = contextvars.ContextVar(f"koan_{name}", default=None)
        self._first: Callable[[], str | None] | None = None

    def current(self) -> str | None:
        """Return the value in force here, or ``None``."""
        found = self._first() if self._first is not None else None
        return self._variable.get() if found is None else found or None

    def ask_first(self, source: Callable[[], str | None] | None) -> None:
        """Let ``source`` say what is in force, before what was put here: a tracing library knows the open span.

        An empty answer says that nothing is; with ``None`` it does not know.
        """
        self._first = source

    def is_valid(self, value: str) -> bool:
        """Whether ``value`` may be used."""
        return self._pattern.fullmatch(value) is not None

    @contextmanager
    def use(self, value: str | None) -> Iterator[None]:
        """Put ``value`` in force for the block; raises ``ValueError`` for one that cannot travel safely."""
        if value is not None and not self.is_valid(value):
            raise ValueError(f"{value!r} is not a {self.name}: it must match {self._pattern.pattern}")
        token = self.put(value)
        try:
            yield
        finally:
            self.take_back(token)

    def put(self, value: str | None) -> contextvars.Token[str | None]:
        """Put a valid ``value`` in force until :meth:`take_back`."""
        return self._variable.set(value)

    def take_back(self, token: contextvars.Token[str | None]) -> None:
        """Put in force again what was before."""
        self._variable.reset(token)


class Baggage(ContextValue):
    """The values of an application that travel along; bounded, and text of ``key=value`` pairs between commas."""

    def is_valid(self, value: str) -> bool:
        """Whether ``value`` may be used: well formed, and within what W3C says that everybody carries on."""
        members = value.split(",")
        fits = value.isascii() and len(value) <= BAGGAGE_BYTES and len(members) <= BAGGAGE_MEMBERS
        return fits and all(self._pattern.fullmatch(member.strip(" \t")) for member in members)


#: In whose name work is done: ``with tenant.use("acme"):``. It travels with messages and Celery tasks.
tenant = ContextValue("tenant", _TENANT)
#: The id of the whole story: the one of the request, through messages, jobs and log lines.
correlation = ContextValue("correlation", _IDENTIFIER)
causation = ContextValue("causation", _IDENTIFIER)
traceparent = ContextValue("traceparent", _TRACEPARENT)
tracestate = ContextValue("tracestate", _TRACESTATE)
#: What an application wants to travel with everything that follows: ``with baggage.use("plan=gold"):``.
baggage = Baggage("baggage", _BAGGAGE)

_VALUES = {value.name: value for value in (tenant, correlation, causation, traceparent, tracestate, baggage)}
_ALL = tuple(_VALUES.items())


def new_id() -> str:
    """Return a fresh identifier: 32 hexadecimal digits."""
    return os.urandom(16).hex()  # as unlikely to come twice as a UUID, and made in half the time


def in_force(values: Iterable[tuple[str, ContextValue]]) -> dict[str, str]:
    """Return what is in force of ``values``, each under the name that stands before it; what is not set is absent."""
    found = {}
    for name, value in values:  # not by calls of current(): this is done for every message
        text = value._variable.get() if value._first is None else value.current()
        if text is not None:
            found[name] = text
    return found


def snapshot() -> dict[str, str]:
    """Return the values in force, by name; what is not set is absent."""
    return in_force(_ALL)


class restore:  # noqa: N801  # it is used like a function
    """Put exactly ``values`` in force for the block.

    They come from outside (a header, a task), so one that is not valid is dropped and never raised. A class and no
    generator: it is around every message.
    """

    __slots__ = ("_tokens", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._tokens: list[contextvars.Token[str | None]] = []

    def __enter__(self) -> None:
        get = self._values.get
        self._tokens = [value.put(_safe(value, get(name))) for name, value in _ALL]

    def __exit__(self, *_exception: object) -> None:
        for (_, value), token in zip(_ALL, self._tokens, strict=True):
            value.take_back(token)


def _safe(value: ContextValue, given: object) -> str | None:
    return given if given and isinstance(given, str) and value.is_valid(given) else None


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` bound to the context of now, for a thread or an executor."""
    context = contextvars.copy_context()

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return run
