"""Brings what stands in the dead-letter queues into :class:`~koan_django.messaging.models.DeadLetter` rows.

A worker publishes a message it gave up on there, with the reason in headers; the broker moves one there by itself when
it was delivered too often. Either way the row is committed before the message is acknowledged. While the database is
away the messages wait here unacknowledged, and consuming goes on.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from koan_django.core.texts import clean
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.handling.burial import bury
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter

from .properties import from_amqp

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .bus import AmqpBus

logger = logging.getLogger(__name__)

PREFETCH = 100
PAUSE_SECONDS = 2.0
#: Headers must fit into one frame, beside those that the message brought.
TRACEBACK_HEADER_LENGTH = 8_000


def dead_headers(verdict: Verdict, *, brief: bool = False) -> dict[str, str]:
    """Return the headers that say why a message is dead; ``brief`` without the traceback."""
    return {
        "koan-dead-reason": verdict.reason,
        "koan-dead-handler": verdict.handler,
        "koan-dead-error-type": verdict.error_type,
        "koan-dead-error": verdict.error,
        "koan-dead-traceback": "" if brief else verdict.traceback[-TRACEBACK_HEADER_LENGTH:],
    }


_ORPHANED = Verdict(
    outcome="dead",
    reason="unroutable",
    error_type="unroutable",
    error="no group received it when its delay was over",
)


class _Arrived(NamedTuple):
    tag: int
    delivery: Delivery
    verdict: Verdict


class DeadLetterBridge:
    """Consumes the dead-letter queues on a channel of the consumer's connection."""

    def __init__(self, bus: AmqpBus) -> None:
        self._bus = bus
        self._channel: Any = None
        self._arrived: list[_Arrived] = []
        self._not_before = 0.0
        self._trouble = ""

    def open(self, channel: Any, groups: list[str]) -> None:
        """Consume the queues of ``groups`` on a fresh channel."""
        self._channel, self._arrived, self._not_before = channel, [], 0.0
        channel.basic_qos(0, PREFETCH, False)
        for group in () if self._bus.names.section else groups:  # they are the bus's, whose own consumer brings them
            channel.basic_consume(self._bus.names.dead(group), callback=partial(self._on_message, group))
        if self._bus.options.delay_in_broker:
            channel.basic_consume(self._bus.names.orphans, callback=self._on_orphan)

    def turn(self, turn: Callable[[], AbstractContextManager[None]]) -> str:
        """Write what arrived, inside a database turn of the consuming thread, then acknowledge it.

        Return what keeps it from doing so, or nothing.
        """
        if self._arrived and time.monotonic() >= self._not_before:
            arrived, self._arrived = self._arrived, []
            self._trouble = self._bring(turn, arrived)
            self._not_before = time.monotonic() + PAUSE_SECONDS if self._trouble else 0.0
        return self._trouble

    def _bring(self, turn: Callable[[], AbstractContextManager[None]], arrived: list[_Arrived]) -> str:
        """Write and acknowledge ``arrived``; what cannot be written now stays."""
        buried, trouble = bury(self._bus.alias, turn, [(each.delivery, each.verdict) for each in arrived])
        written = {id(delivery) for delivery in buried}
        for each in arrived:
            if id(each.delivery) in written:
                self._channel.basic_ack(each.tag)
            else:
                self._arrived.append(each)
        if trouble and trouble != self._trouble:
            logger.warning("%s", trouble)
        return trouble

    def _on_message(self, group: str, message: Any) -> None:
        headers = message.properties.get("application_headers") or {}
        delivery = Delivery(from_amqp(message, group), self._bus.alias, group)
        self._arrived.append(_Arrived(message.delivery_tag, delivery, _verdict(headers)))

    def _on_orphan(self, message: Any) -> None:
        """A delayed message whose time came, and nobody receives it any more; it is nobody's failure."""
        delivery = Delivery(from_amqp(message, ""), self._bus.alias, "")
        self._arrived.append(_Arrived(message.delivery_tag, delivery, _ORPHANED))


def _verdict(headers: dict[str, Any]) -> Verdict:
    """Read the reason; anybody may have written it."""
    reason = clean(headers.get("koan-dead-reason") or "")
    if reason in DeadLetter.Reason.values:
        return Verdict(
            outcome="dead",
            reason=reason,
            handler=clean(headers.get("koan-dead-handler", ""), 255),
            error_type=clean(headers.get("koan-dead-error-type", ""), 255),
            error=clean(headers.get("koan-dead-error", "")),
            traceback=clean(headers.get("koan-dead-traceback", "")),
        )
    why = clean(headers.get("x-first-death-reason", "unknown"), 100)
    return Verdict(outcome="dead", reason="broker", error_type="broker", error=f"dead-lettered by the broker: {why}")
