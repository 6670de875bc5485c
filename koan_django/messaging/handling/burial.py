"""Turns messages that a broker holds into dead letters. The row is committed before the broker may forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, router, transaction

from koan_django.core.redaction import redact_text
from koan_django.core.texts import counted, one_line
from koan_django.messaging import events
from koan_django.messaging.dead.deadletters import dead_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from koan_django.messaging.envelope import Delivery

    from .verdicts import Verdict

    Turn = Callable[[], AbstractContextManager[None]]


def bury(bus: str, turn: Turn, dead: Sequence[tuple[Delivery, Verdict]]) -> tuple[list[Delivery], str]:
    """Write ``dead`` inside a turn of the calling thread: together, or one by one when one of them is the trouble.

    Return what is written, and what keeps the rest from it, or nothing.
    """
    if not dead:
        return [], ""
    try:
        with turn():
            _write(bus, dead)
    except Exception as error:
        if len(dead) > 1 and not isinstance(error, OperationalError | InterfaceError):
            each = [bury(bus, turn, [pair]) for pair in dead]
            written = [delivery for deliveries, _ in each for delivery in deliveries]
            return written, next((trouble for _, trouble in each if trouble), "")
        return [], f"{counted(len(dead), 'dead letter')} cannot be written: {one_line(redact_text(str(error)))}"
    return [delivery for delivery, _ in dead], ""


def _write(bus: str, dead: Sequence[tuple[Delivery, Verdict]]) -> None:
    """A message may come a second time. A stranger's id need not be unique, so the body decides as well."""
    from koan_django.messaging.models import DeadLetter

    ids = [delivery.envelope.id for delivery, _ in dead]
    with transaction.atomic(using=router.db_for_write(DeadLetter)):
        rows = DeadLetter.objects.all().primary().dead().filter(bus=bus, message_id__in=ids)
        known = {(id_, group, bytes(body)) for id_, group, body in rows.values_list("message_id", "group", "body")}
        keyed = {(d.envelope.id, d.group, d.envelope.body): (d, v) for d, v in dead}
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
