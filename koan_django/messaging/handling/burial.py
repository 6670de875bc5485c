"""Turns messages that a broker holds into dead letters. The row is committed before the broker may forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, router, transaction

from koan_django.core.redaction import redact_text
from koan_django.core.texts import counted, one_line
from koan_django.messaging import events, handlers
from koan_django.messaging.dead.deadletters import dead_letter
from koan_django.messaging.exceptions import WorkerLostError

from .verdicts import dead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from koan_django.messaging.buses.base import Bus
    from koan_django.messaging.envelope import Delivery

    from .verdicts import Verdict

    Turn = Callable[[], AbstractContextManager[None]]


def bury(bus: str, turn: Turn, doomed: Sequence[tuple[Delivery, Verdict]]) -> tuple[list[Delivery], str]:
    """Write ``doomed`` inside a turn of the calling thread: together, or one by one when one of them is the trouble.

    Return what is written, and what keeps the rest from it, or nothing.
    """
    if not doomed:
        return [], ""
    try:
        with turn():
            _write(bus, doomed)
    except Exception as error:
        if len(doomed) > 1 and not isinstance(error, OperationalError | InterfaceError):
            each = [bury(bus, turn, [pair]) for pair in doomed]
            written = [delivery for deliveries, _ in each for delivery in deliveries]
            return written, next((trouble for _, trouble in each if trouble), "")
        return [], f"{counted(len(doomed), 'dead letter')} cannot be written: {one_line(redact_text(str(error)))}"
    return [delivery for delivery, _ in doomed], ""


def given_up(bus: Bus, delivery: Delivery) -> Verdict:
    """Return the verdict on a message that was handed out as often as the bus allows, and never answered."""
    error = WorkerLostError(
        "no worker that was given the message came back with an answer",
        why=f"{bus.options.delivery_limit} deliveries in a row ended without one",
        fix="Find out what ends the workers (memory, a crash, a kill), then replay it.",
    )
    return dead(handlers.find(bus.alias, delivery.group, delivery.envelope.alias), error)


def _write(bus: str, doomed: Sequence[tuple[Delivery, Verdict]]) -> None:
    """A message may come a second time. A stranger's id need not be unique, so the body decides as well."""
    from koan_django.messaging.models import DeadLetter

    ids = [delivery.envelope.id for delivery, _ in doomed]
    with transaction.atomic(using=router.db_for_write(DeadLetter)):
        rows = DeadLetter.objects.all().primary().dead().filter(bus=bus, message_id__in=ids)
        known = {(id_, group, bytes(body)) for id_, group, body in rows.values_list("message_id", "group", "body")}
        keyed = {(d.envelope.id, d.group, d.envelope.body): (d, v) for d, v in doomed}
        fresh = [pair for key, pair in keyed.items() if key not in known]
        DeadLetter.objects.bulk_create(dead_letter(delivery, verdict) for delivery, verdict in fresh)
        events.record(
            events.event(
                "dead",
                bus,
                delivery.envelope,
                group=delivery.group,
                handler=verdict.handler,
                detail=f"{verdict.error_type.rpartition('.')[2]}: {verdict.error}",
            )
            for delivery, verdict in fresh
        )
