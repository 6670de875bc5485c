"""The slot around every handler: who wants to see, hold or drop a delivery before it is handled.

The inbox sits here. A middleware is a context manager around the call; it may yield a call with fewer deliveries, and
those it left out count as duplicates. For an atomic handler all of it happens inside the handler's transaction.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from koan_django.core.registry import Registry, place_of
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handlers import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a handler: one delivery, or a batch."""

    bus: str
    group: str
    handler: Handler
    deliveries: tuple[Delivery, ...]


class Middleware(Protocol):
    """Wraps a call; yields the call that is really made."""

    def __call__(self, call: Call) -> AbstractContextManager[Call]:
        """Enter around ``call``."""


_chain: Registry[tuple[int, Middleware]] = Registry("handler middleware")


def register(name: str, middleware: Middleware, *, order: int = 50) -> None:
    """Put ``middleware`` around every handler, outermost first by ``order``."""
    _chain.add(name, (order, middleware), origin=place_of(middleware))


def installed(name: str) -> bool:
    """Whether a middleware of that name is there."""
    return name in _chain


def applied(call: Call) -> AbstractContextManager[Call]:
    """Return what enters all middleware around ``call``."""
    chain = [middleware for _order, middleware in sorted(_chain, key=lambda entry: entry[0])]
    if not chain:
        return nullcontext(call)
    return chain[0](call) if len(chain) == 1 else _entered(chain, call)  # each message comes this way, mostly by one


@contextmanager
def _entered(chain: Sequence[Middleware], call: Call) -> Iterator[Call]:
    with ExitStack() as stack:
        for middleware in chain:
            if call.deliveries:
                call = stack.enter_context(middleware(call))
        yield call
