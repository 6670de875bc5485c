"""``chaos``: what a bus may do to messages, done on purpose to those that ``drain()`` hands out."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from koan_django.messaging.outgoing.sending import redeliver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koan_django.messaging.envelope import Delivery

T = TypeVar("T")


class Chaos:
    """What ``chaos()`` yields. ``duplicated``, ``reordered`` and ``killed`` count what was done."""

    def __init__(self, duplicate: float, reorder: bool, kill_after_commit: float, seed: int) -> None:
        self.duplicate = duplicate
        self.reorder = reorder
        self.kill_after_commit = kill_after_commit
        self.duplicated = self.reordered = self.killed = 0
        self._random = random.Random(seed)  # noqa: S311  # it is to be repeated
        self._struck: set[tuple[str, str, str]] = set()

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """Return ``things`` in another order, if order is to be broken."""
        mixed = list(things)
        if self.reorder:
            self._random.shuffle(mixed)
            self.reordered += sum(one is not other for one, other in zip(things, mixed, strict=True))
        return mixed

    def kills(self, delivery: Delivery) -> bool:
        """Whether the worker dies now: the handler has committed, and the bus is never told. Once for each."""
        struck = self._strikes(self.kill_after_commit, delivery, "killed")
        self.killed += struck
        return struck

    def repeat(self, delivery: Delivery) -> None:
        """Send a delivery once more, as a bus does whose acknowledgement was lost. Once for each."""
        if self._strikes(self.duplicate, delivery, "duplicated"):
            self.duplicated += 1
            redeliver(delivery.bus, delivery.envelope, delivery.group)

    def _strikes(self, chance: float, delivery: Delivery, how: str) -> bool:
        which = (how, delivery.group, delivery.envelope.id)
        if which in self._struck or self._random.random() >= chance:
            return False
        self._struck.add(which)
        return True


_PEACE = Chaos(0, False, 0, 0)
_current = _PEACE


def current() -> Chaos:
    """Return what is in force: nothing at all outside of ``chaos()``."""
    return _current


@contextmanager
def chaos(
    *, duplicate: float = 0.0, reorder: bool = False, kill_after_commit: float = 0.0, seed: int = 0
) -> Iterator[Chaos]:
    """Have ``drain()`` deliver a second time, in another order, or die after a handler's commit.

    ``duplicate`` and ``kill_after_commit`` are the share of messages, from 0 to 1, each struck once at most. The same
    ``seed`` does the same. A handler that stands it does the right thing on every bus.
    """
    global _current
    for share in (duplicate, kill_after_commit):
        if not 0 <= share <= 1:
            raise ValueError(f"{share} is not a share from 0 to 1")
    before, _current = _current, Chaos(duplicate, reorder, kill_after_commit, seed)
    try:
        yield _current
    finally:
        _current = before
