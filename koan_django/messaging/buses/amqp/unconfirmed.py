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


class Unconfirmed:
    """Publications by delivery tag, which the broker counts from 1 on each channel."""

    def __init__(self) -> None:
        self._by_tag: dict[int, Publication] = {}
        self._tag = 0
        self._lowest = 1
        self._returned: Counter[Address] = Counter()

    def __len__(self) -> int:
        return len(self._by_tag)

    def add(self, publication: Publication) -> None:
        """Remember what is written next."""
        self._tag += 1
        self._by_tag[self._tag] = publication

    def settle(self, tag: int, multiple: bool) -> list[Publication]:
        """Take out what an answer is for: this tag or, with ``multiple``, everything up to it. Others are ignored."""
        tags: Iterable[int] = (tag,)
        if multiple:
            tags, self._lowest = range(self._lowest, min(tag, self._tag) + 1), min(tag, self._tag) + 1
        return [self._by_tag.pop(each) for each in tags if each in self._by_tag]

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
        return next(iter(self._by_tag.values())).deadline

    def put_off(self, deadline: float) -> None:
        """Give all of them more time."""
        for publication in self._by_tag.values():
            publication.deadline = deadline

    def all(self) -> list[Publication]:
        """Return them in the order in which they were written."""
        return list(self._by_tag.values())
