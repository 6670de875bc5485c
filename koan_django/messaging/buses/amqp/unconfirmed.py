"""What was written on one channel and not answered yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koan_django.messaging.buses.broker import Outcome
from koan_django.messaging.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a returned message tells of itself: its id, and what it was published to.
Address = tuple[str, str, str]


@dataclass(eq=False, slots=True)
class Publication:
    """A message on its way, and who wants to know. ``done`` is called by whoever uses the connection then."""

    exchange: str
    routing_key: str
    envelope: Envelope
    #: Headers beside those of the envelope; with ``bare`` it has only those of its own that are ours.
    extra: Mapping[str, str | bool]
    done: Callable[[Outcome], None]
    bare: bool = False
    deadline: float = 0.0
    #: Whoever wanted to know has given up: what was not written by then is not written any more.
    abandoned: bool = False

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
        self._returned: Counter[Address] = Counter()

    def add(self, publication: Publication) -> None:
        """Remember what is written next."""
        self._tag += 1
        self[self._tag] = publication

    def settle(self, tag: int, multiple: bool) -> list[Publication]:
        """Take out what an answer is for: this tag or, with ``multiple``, everything up to it. Others are ignored."""
        tags: Iterable[int] = (tag,)
        if multiple:
            tags, self._lowest = range(self._lowest, min(tag, self._tag) + 1), min(tag, self._tag) + 1
        return [self.pop(each) for each in tags if each in self]

    def note_return(self, address: Address) -> None:
        """A message came back; its acknowledgement follows."""
        self._returned[address] += 1

    def was_returned(self, publication: Publication) -> bool:
        """Whether it came back. One message may be under way to several groups, and to one of them twice."""
        if not self._returned or not self._returned[publication.address]:
            return False
        self._returned[publication.address] -= 1
        return True

    @property
    def deadline(self) -> float:
        """When the oldest should be answered."""
        return next(iter(self.values())).deadline

    def put_off(self, deadline: float) -> None:
        """Give all of them more time."""
        for publication in self.values():
            publication.deadline = deadline
