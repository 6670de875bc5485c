"""What was written on one channel and not answered yet."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from koan_django.messaging.buses.broker import Outcome

from .properties import NO_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from koan_django.messaging.envelope import Envelope

#: What a returned message tells of itself: its id, and what it was published to.
Address = tuple[str, str, str]


#: Of what is not answered yet.
OPEN = Outcome("unknown", "no answer from the publisher")


class Publication(msgspec.Struct, eq=False):
    """A message on its way, and what became of it: nothing yet as long as that is :data:`OPEN`.

    ``on_done`` is called once it is known, by whoever finds out.
    """

    exchange: str
    routing_key: str
    envelope: Envelope
    #: Headers beside those of the envelope; with ``bare`` it has only those of its own that are ours.
    extra: Mapping[str, str | bool] = NO_HEADERS
    bare: bool = False
    on_done: Callable[[Publication], object] | None = None
    outcome: Outcome = OPEN
    deadline: float = 0.0
    #: Whoever wanted to know has given up: what was not written by then is not written any more.
    abandoned: bool = False

    def done(self, outcome: Outcome) -> None:
        """Say what became of it. Said once more it changes nothing, and tells whoever may not have been told."""
        if self.outcome is OPEN:
            self.outcome = outcome
        if self.on_done is not None:
            self.on_done(self)
            self.on_done = None

    @property
    def address(self) -> Address:
        """What was published where."""
        return self.envelope.id, self.exchange, self.routing_key


class Unconfirmed(dict[int, Publication]):
    """Publications by delivery tag, which the broker counts from 1 on each channel; in the order of their writing."""

    def __init__(self) -> None:
        super().__init__()
        self._tag = 0
        self._lowest = 1
        self.returned: Counter[Address] = Counter()

    def add(self, publication: Publication) -> None:
        """Remember what is written next."""
        self._tag += 1
        self[self._tag] = publication

    def answered(self, tag: int, multiple: bool) -> Sequence[int]:
        """Return the tags that an answer is for: this or, with ``multiple``, all up to it. Others are ignored."""
        if multiple:
            tags, self._lowest = range(self._lowest, min(tag, self._tag) + 1), min(tag, self._tag) + 1
            return [each for each in tags if each in self]
        return (tag,) if tag in self else ()

    def note_return(self, address: Address) -> None:
        """A message came back; its acknowledgement follows."""
        self.returned[address] += 1

    def was_returned(self, publication: Publication) -> bool:
        """Whether it came back. One message may be under way to several groups, and to one of them twice."""
        if not self.returned[publication.address]:
            return False
        self.returned[publication.address] -= 1
        return True

    @property
    def deadline(self) -> float:
        """When the oldest should be answered."""
        return next(iter(self.values())).deadline

    def put_off(self, deadline: float) -> None:
        """Give all of them more time."""
        for publication in self.values():
            publication.deadline = deadline
