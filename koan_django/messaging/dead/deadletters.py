"""Writing dead letters, and sending them to their group again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router, transaction
from django.db.models import F
from django.utils import timezone

from koan_django.core import audit
from koan_django.messaging import events
from koan_django.messaging.encoding import decode
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.messages import by_alias

from . import memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from koan_django.messaging.envelope import Delivery, Envelope, Receipt
    from koan_django.messaging.handling.verdicts import Verdict
    from koan_django.messaging.models import DeadLetter


def dead_letter(delivery: Delivery, verdict: Verdict) -> DeadLetter:
    """Return an unsaved dead letter."""
    from koan_django.messaging.models import DeadLetter

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


def replay(dead: DeadLetter, *, body: bytes | None = None, forgotten: bool = False) -> Receipt:
    """Send a dead letter to its group again, with the same id and a fresh count of attempts.

    ``body`` is sent in place of the one that died, which stays on record; it must be readable as the message's class.
    Without one, a letter that was sent longer ago than the inbox remembers is refused unless ``forgotten``.
    Raises :class:`MessagingError` when the letter was replayed or discarded meanwhile,
    :class:`~koan_django.messaging.exceptions.UnreadableMessageError` for a body that no handler could read,
    :class:`~koan_django.messaging.exceptions.ForgottenError` for one that is too old.
    """
    if body is not None:
        _check(dead, body)
    elif not forgotten:
        memory.refuse_forgotten([dead])
    return _replay([dead], {} if body is None else {dead.pk: body})[0]


def replay_batch(letters: Sequence[DeadLetter], *, forgotten: bool = False) -> None:
    """Send several again, all of them or none; raises as :func:`replay` does."""
    if not forgotten:
        memory.refuse_forgotten(letters)
    _replay(letters, {})


def discard(dead: DeadLetter) -> None:
    """Give a dead letter up: it stays on record until retention removes it."""
    discard_batch([dead])


def discard_batch(letters: Sequence[DeadLetter]) -> None:
    """Give several up, all of them or none."""
    with transaction.atomic(using=_database()):
        _move(letters, "discarded")
        _audit("messaging.discard", letters)


def _replay(letters: Sequence[DeadLetter], edited: Mapping[int, bytes]) -> list[Receipt]:
    from koan_django.messaging.buses import registry

    receipts: list[Receipt] = []
    with transaction.atomic(using=_database()):
        _move(letters, "replayed", replayed_at=timezone.now(), replays=F("replays") + 1)
        for bus, mine in _by_bus(letters).items():
            envelopes = [_fresh(dead, edited) for dead in mine]
            receipts += registry.get(bus).send(envelopes, None)
            told = zip(envelopes, mine, strict=True)
            events.record(
                events.event("replayed", bus, envelope, group=dead.group, detail="edited" if dead.pk in edited else "")
                for envelope, dead in told
            )
        _audit("messaging.replay", letters, edited=len(edited))
    return receipts


def _fresh(dead: DeadLetter, edited: Mapping[int, bytes]) -> Envelope:
    return dead.envelope().replayed(edited.get(dead.pk, bytes(dead.body)))


def _by_bus(letters: Sequence[DeadLetter]) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    for dead in letters:
        found.setdefault(dead.bus, []).append(dead)
    return found


def _check(dead: DeadLetter, body: bytes) -> None:
    cls = by_alias(dead.alias)
    if cls is not None:
        decode(cls, body, dead.version)


def _audit(action: str, letters: Sequence[DeadLetter], edited: int = 0) -> None:
    """One event, also for a batch: each message has its own in the trail."""
    extra = {"edited": edited} if edited else {}
    if len(letters) == 1:
        audit.record(action, letters[0], data=_described(letters[0]) | extra)
    elif letters:
        kind = letters[0]._meta.label_lower
        name = f"{letters[0].pk}..{letters[-1].pk}"
        data = {"count": len(letters), "groups": sorted({each.group for each in letters}), **extra}
        audit.record(action, audit.Reference(kind, name), data=data)


def _described(dead: DeadLetter) -> dict[str, Any]:
    """What the audit keeps; the story that the letter belongs to may be another than the one that replays it."""
    return {"bus": dead.bus, "group": dead.group, "reason": dead.reason, "of": dead.correlation_id}


def _move(letters: Sequence[DeadLetter], state: str, **changes: object) -> None:
    """Compare and set: somebody else may act on the same letters."""
    from koan_django.messaging.models import DeadLetter

    dead = DeadLetter.objects.all().primary().dead()
    if dead.filter(pk__in=[each.pk for each in letters]).update(state=state, **changes) != len(letters):
        which = f"the dead letter {letters[0].pk} is" if len(letters) == 1 else f"{len(letters)} dead letters are"
        raise MessagingError(f"{which} not {state}", why="somebody replayed or discarded it already")


def _database() -> str:
    from koan_django.messaging.models import DeadLetter

    return router.db_for_write(DeadLetter)
