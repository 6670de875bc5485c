"""Acknowledgements of one channel.

Batches finish out of order, and one ``basic.ack`` with ``multiple`` settles everything up to its tag. So the tags are
kept in order, and only the settled ones at the front are acknowledged.
"""

from __future__ import annotations

from itertools import takewhile


class AckWindow:
    """The unacknowledged tags of a channel, oldest first."""

    def __init__(self, *, in_turns: bool = False) -> None:
        #: Whether of several consumers of the queue one is served at a time.
        self.in_turns = in_turns
        self._settled: dict[int, bool] = {}
        #: The tag of the last delivery.
        self.last = 0

    def __len__(self) -> int:
        return len(self._settled)

    def deliver(self, tag: int) -> None:
        """A message with ``tag`` arrived."""
        self._settled[tag] = False
        self.last = tag

    def settle(self, tag: int) -> None:
        """The message is over and may be acknowledged; an unknown tag is ignored."""
        if tag in self._settled:
            self._settled[tag] = True

    def reject(self, tag: int) -> bool:
        """The message goes back by a reject of its own; return whether it was still open."""
        return self._settled.pop(tag, None) is not None

    def advance(self) -> int | None:
        """Return the tag up to which everything is settled now, or ``None`` when nothing new is."""
        over = list(takewhile(self._settled.__getitem__, self._settled))
        for tag in over:
            del self._settled[tag]
        return over[-1] if over else None
