"""Brings what stands in the dead-letter queues into :class:`~koan_django.messaging.models.DeadLetter` rows.

A worker publishes a message it gave up on there, with the reason in headers; the broker moves one there by itself when
it was delivered too often. Either way the row is committed before the message is acknowledged.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import transaction

from koan_django.messaging import events
from koan_django.messaging.deadletters import dead_letter
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.verdicts import Verdict

from .properties import from_amqp

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .bus import AmqpBus

PREFETCH = 100
#: Header frames must fit into the smallest frame size that brokers negotiate.
TRACEBACK_HEADER_LENGTH = 8_000


def dead_headers(verdict: Verdict) -> dict[str, str]:
    """Return the headers that say why a message is dead."""
    return {
        "koan-dead-reason": verdict.reason,
        "koan-dead-handler": verdict.handler,
        "koan-dead-error-type": verdict.error_type,
        "koan-dead-error": verdict.error,
        "koan-dead-traceback": verdict.traceback[-TRACEBACK_HEADER_LENGTH:],
    }


class DeadLetterBridge:
    """Consumes the dead-letter queues on a channel of the consumer's connection."""

    def __init__(self, bus: AmqpBus) -> None:
        self._bus = bus
        self._channel: Any = None
        self._arrived: list[tuple[int, Delivery, Verdict]] = []

    def open(self, channel: Any, groups: list[str]) -> None:
        """Consume the queues of ``groups`` on a fresh channel."""
        self._channel, self._arrived = channel, []
        channel.basic_qos(0, PREFETCH, False)
        for group in groups:
            channel.basic_consume(self._bus.names.dead(group), callback=partial(self._on_message, group))

    def turn(self, turn: Callable[[], AbstractContextManager[None]]) -> None:
        """Write what arrived, inside a database turn of the consuming thread, then acknowledge it."""
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        with turn(), transaction.atomic():
            self._write([(delivery, verdict) for _, delivery, verdict in arrived])
        self._channel.basic_ack(arrived[-1][0], multiple=True)

    def _on_message(self, group: str, message: Any) -> None:
        delivery = Delivery(from_amqp(message, group), self._bus.alias, group)
        headers = message.properties.get("application_headers") or {}
        self._arrived.append((message.delivery_tag, delivery, _verdict(headers)))

    def _write(self, dead: list[tuple[Delivery, Verdict]]) -> None:
        from koan_django.messaging.models import DeadLetter

        ids = [delivery.envelope.id for delivery, _ in dead]
        known = set(
            DeadLetter.objects.dead().filter(bus=self._bus.alias, message_id__in=ids).values_list("message_id", "group")
        )
        # A row may be committed and its acknowledgement lost: the message then comes a second time.
        fresh = {(d.envelope.id, d.group): (d, v) for d, v in dead if (d.envelope.id, d.group) not in known}.values()
        DeadLetter.objects.bulk_create(dead_letter(delivery, verdict) for delivery, verdict in fresh)
        events.record(
            events.event(
                "dead",
                self._bus.alias,
                delivery.envelope,
                group=delivery.group,
                handler=verdict.handler,
                detail=f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}",
            )
            for delivery, verdict in fresh
        )


def _verdict(headers: dict[str, Any]) -> Verdict:
    reason = headers.get("koan-dead-reason")
    if reason:
        return Verdict(
            outcome="dead",
            reason=reason,
            handler=headers.get("koan-dead-handler", ""),
            error_type=headers.get("koan-dead-error-type", ""),
            error=headers.get("koan-dead-error", ""),
            traceback=headers.get("koan-dead-traceback", ""),
        )
    why = headers.get("x-first-death-reason", "unknown")
    return Verdict(outcome="dead", reason="broker", error_type="broker", error=f"dead-lettered by the broker: {why}")
