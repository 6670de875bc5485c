"""Who wants to know of each message that a bus has accepted: the test kit. Nobody does otherwise, at no cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from koan_django.messaging.buses.base import Due
from koan_django.messaging.envelope import Envelope, Receipt
from koan_django.messaging.messages import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    Watcher = Callable[["Sent"], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a bus accepted. ``due`` is its delay or time; its transaction may still roll back."""

    message: Message
    envelope: Envelope
    receipt: Receipt
    due: Due = None

    @property
    def group(self) -> str:
        """The one group it was sent to, or nothing."""
        return self.envelope.group


watchers: list[Watcher] = []


def watch(watcher: Watcher) -> Callable[[], None]:
    """Call ``watcher`` with everything that is sent in this process; return a function that ends it."""
    watchers.append(watcher)
    return lambda: watchers.remove(watcher)


def tell(sent: Sent) -> None:
    """Call the watchers."""
    for watcher in tuple(watchers):
        watcher(sent)
