"""Moves messages from one queue to another on the same broker, and loses none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from koan_django.core import faults
from koan_django.messaging.exceptions import PublishError

if TYPE_CHECKING:
    from koan_django.messaging.buses.amqp.link import Link

#: Published together, then confirmed together, then acknowledged.
BATCH = 100
CONFIRM_SECONDS = 30.0
#: The broker would refuse the name of another user, and lead a copy wherever the sender wanted one.
_DROPPED_PROPERTY, _DROPPED_HEADER = "user_id", "CC"
_BEFORE_PUBLISH = faults.point("messaging.move.before_publish")
_BEFORE_ACK = faults.point("messaging.move.before_ack")


class Mover:
    """Two channels of ``link``: one takes, one publishes with confirms."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._taking: Any = None
        self._putting: Any = None
        self._tag = 0
        self._unconfirmed: set[int] = set()
        self._refused = ""

    def move(self, source: str, destination: str, *, at_most: int | None = None) -> int:
        """Move what is ready in ``source``, in its order, and return how many there were.

        It ends when nothing is ready, or after about ``at_most`` messages where others go on sending. A message is
        acknowledged after its confirm. Raises :class:`PublishError`, and the broker's own errors; what was not
        acknowledged then is in ``source`` still, and may be in ``destination`` as well.
        """
        self._open()
        moved = 0
        while (at_most is None or moved < at_most) and (messages := self._take(source)):
            _BEFORE_PUBLISH()
            self._put(messages, destination)
            _BEFORE_ACK()
            self._taking.basic_ack(messages[-1].delivery_tag, multiple=True)
            moved += len(messages)
        return moved

    def _open(self) -> None:
        if self._taking is not None:
            return
        self._taking, self._putting = self._link.channel(), self._link.channel()
        self._taking.auto_decode = False  # a body is moved as it is
        self._putting.confirm_select()
        self._putting.events["basic_ack"].add(self._on_ack)
        self._putting.events["basic_nack"].add(self._on_nack)
        self._putting.events["basic_return"].add(self._on_return)

    def _take(self, source: str) -> list[Any]:
        found: list[Any] = []
        while len(found) < BATCH and (message := self._taking.basic_get(source)) is not None:
            found.append(message)
        return found

    def _put(self, messages: list[Any], destination: str) -> None:
        for message in messages:
            message.properties.pop(_DROPPED_PROPERTY, None)
            (message.properties.get("application_headers") or {}).pop(_DROPPED_HEADER, None)
            self._tag += 1
            self._unconfirmed.add(self._tag)
            self._putting.basic_publish(message, "", destination, mandatory=True)
        end = time.monotonic() + CONFIRM_SECONDS
        while self._unconfirmed and not self._refused:
            if time.monotonic() > end:
                self._refused = f"no confirm within {CONFIRM_SECONDS:g} s"
                break
            self._link.wait(0.2)
        if self._refused:
            raise PublishError(f"messages were not moved to {destination!r}", why=self._refused)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._unconfirmed -= {each for each in self._unconfirmed if each == tag or (multiple and each < tag)}

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._refused = "the broker refused them: the queue is full, or had an error"

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        self._refused = "there is no such queue any more"
