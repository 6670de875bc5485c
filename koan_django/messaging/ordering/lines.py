"""What a worker has of the partitions it works on, each in order."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handling.verdicts import Outcome

#: What lets the messages behind it go on.
OVER: frozenset[Outcome] = frozenset({"handled", "duplicate", "dead"})


class Lane(NamedTuple):
    """A partition of a group."""

    group: str
    number: int

    def __str__(self) -> str:
        return f"{self.group}.p{self.number}"


class Line:
    """The deliveries of one lane that are here and not handled yet, the oldest first; one batch runs at a time."""

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.running = False
        #: Nothing more is taken; it is given up as soon as nothing of it runs.
        self.leaving = False
        #: The message at the front that failed, and has not been handled since.
        self.blocked_by = ""
        self._not_before = 0.0
        self._alone = 0

    @property
    def is_ready(self) -> bool:
        """Whether a batch of it may run now."""
        return not (self.running or self.leaving) and time.monotonic() >= self._not_before

    def next(self, limit: int) -> list[Delivery]:
        """Return what may run together now, at most ``limit``; it is still in the line."""
        return list(islice(self.waiting, 1 if self._alone else limit))

    def start(self, count: int) -> None:
        """The first ``count`` run now."""
        self.running = True
        self._alone = max(self._alone - count, 0)
        for _ in range(count):
            self.waiting.popleft()

    def put_back(self, deliveries: Iterable[Delivery], wait: float, *, alone: bool = False) -> None:
        """These were not handled: they are the first again, in ``wait`` seconds, one by one when it says so."""
        returned = list(deliveries)
        self.waiting.extendleft(reversed(returned))
        self._not_before = time.monotonic() + wait
        if alone:
            self._alone = len(returned)
