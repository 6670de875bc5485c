"""Acknowledgements of one channel.

Batches finish out of order, and one ``basic.ack`` with ``multiple`` settles everything up to its tag. So the tags are
kept in order, and only the settled ones at the front are acknowledged.
"""

from __future__ import annotations


class AckWindow:
    """The unacknowledged tags of a channel, oldest first."""

    def __init__(self) -> None:
        self._settled: dict[int, bool] = {}

    def __len__(self) -> int:
        return len(self._settled)

    def deliver(self, tag: int) -> None:
        """A message with ``tag`` arrived."""
        self._settled[tag] = False

    def settle(self, tag: int) -> None:
        """The message is over and may be acknowledged; an unknown tag is ignored."""
        if tag in self._settled:
            self._settled[tag] = True

    def reject(self, tag: int) -> bool:
        """The message goes back by a reject of its own; return whether it was still open."""
        return self._settled.pop(tag, None) is not None

    def advance(self) -> int | None:
        """Return the tag up to which everything is settled now, or ``None`` when nothing new is."""
        mark = None
        for tag, settled in self._settled.items():
            if not settled:
                break
            mark = tag
        if mark is not None:
            for tag in [known for known in self._settled if known <= mark]:
                del self._settled[tag]
        return mark
