"""Writing dead letters, and sending them to their group again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.db.models import F
from django.utils import timezone

from koan_django.core import audit

from . import events
from .exceptions import MessagingError

if TYPE_CHECKING:
    from .envelope import Delivery, Receipt
    from .models import DeadLetter
    from .verdicts import Verdict


def dead_letter(delivery: Delivery, verdict: Verdict) -> DeadLetter:
    """Return an unsaved dead letter."""
    from .models import DeadLetter

    envelope = delivery.envelope
    return DeadLetter.holding(
        delivery.bus,
        envelope,
        group=delivery.group,
        reason=verdict.reason or "exhausted",
        handler=verdict.handler,
        error_type=verdict.error_type,
        error=verdict.error,
        traceback=verdict.traceback,
        fingerprint=verdict.fingerprint,
        correlation_id=envelope.correlation_id,
        tenant=envelope.tenant,
    )


def replay(dead: DeadLetter) -> Receipt:
    """Send a dead letter to its group again, with the same id and a fresh count of attempts.

    Raises :class:`MessagingError` when it was replayed or discarded meanwhile.
    """
    from .buses import registry

    with transaction.atomic(using=router.db_for_write(type(dead))):
        _move(dead, "replayed", replayed_at=timezone.now(), replays=F("replays") + 1)
        envelope = replace(dead.envelope(), attempt=1)
        receipt = registry.get(dead.bus).send([envelope], None)[0]
        events.record([events.event("replayed", dead.bus, envelope, group=dead.group)])
        audit.record("messaging.replay", dead, data=_described(dead))
    return receipt


def discard(dead: DeadLetter) -> None:
    """Give a dead letter up: it stays on record until retention removes it."""
    with transaction.atomic(using=router.db_for_write(type(dead))):
        _move(dead, "discarded")
        audit.record("messaging.discard", dead, data=_described(dead))


def _described(dead: DeadLetter) -> dict[str, str]:
    """What the audit keeps; the story that the letter belongs to may be another than the one that replays it."""
    return {"bus": dead.bus, "group": dead.group, "reason": dead.reason, "of": dead.correlation_id}


def _move(dead: DeadLetter, state: str, **changes: object) -> None:
    moved = type(dead).objects.dead().filter(pk=dead.pk).update(state=state, **changes)
    if not moved:
        raise MessagingError(
            f"the dead letter {dead.pk} is not {state}", why="somebody replayed or discarded it already"
        )
