"""Messages for a broker, kept in the database until the broker has confirmed them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from koan_django.core import faults
from koan_django.core.inserting import insert, insert_all
from koan_django.core.retry import RetryPolicy
from koan_django.messaging import events
from koan_django.messaging.conf import options
from koan_django.messaging.envelope import PARTITION_KEY, Receipt
from koan_django.messaging.querysets import available
from koan_django.messaging.routing import LANES, partition_of

from . import databases, handing
from .notifying import notify, to_tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from koan_django.messaging.buses.base import Due
    from koan_django.messaging.envelope import Envelope

#: Tenants with a broker of their own have lanes of their own: a lane waits for what its broker does not take. A relay
#: holds them with the lane of the same number modulo :data:`~koan_django.messaging.routing.LANES`.
_TENANTS = 500
#: How long a message waits after a failed publish: 1 s, 2 s, … 60 s, without end.
BACKOFF = RetryPolicy(max_attempts=1_000_000, first_delay=timedelta(seconds=1), max_delay=timedelta(seconds=60))

#: What the columns of most messages hold, and by themselves.
_USUAL = {"group": "", "version": 1, "priority": 0, "attempt": 1, "last_error": ""}

#: Passed by whoever is about to give messages to a broker: a test may look whether a transaction is open.
before_broker = faults.point("messaging.broker.before_publish")
_BEFORE_COMMIT = faults.point("messaging.outbox.before_commit")


def lane_of(bus: str, envelope: Envelope) -> int:
    """Return the lane of a message: that of its partition key, else of its id."""
    lane = partition_of(envelope.partition_key or envelope.id, LANES)
    if not options().buses[bus].has_broker(envelope.tenant):
        return lane
    return LANES * (1 + partition_of(envelope.tenant, _TENANTS)) + lane


def must_store(bus: str, envelopes: Sequence[Envelope], using: str | None = None) -> str:
    """Return the database in whose outbox messages have to wait; nothing when they may be published at once.

    A transaction of ``using`` is open and may still roll back, or an earlier message of the same key waits somewhere.
    """
    using = using or databases.main()
    if connections[using].in_atomic_block:
        return using
    lanes = set()
    for envelope in envelopes:
        if envelope.headers.get(PARTITION_KEY):
            lanes.add(lane_of(bus, envelope))
    if not lanes:
        return ""
    rows = databases.rows().objects
    return next((each for each in databases.every() if rows.using(each).ahead(bus, lanes).exists()), "")


def store(
    bus: str, envelopes: Sequence[Envelope], due: Due, error: str = "", *, using: str | None = None
) -> list[Receipt]:
    """Write messages to the outbox in ``using``, in its transaction if one is open; one of them by one statement.

    As after ``Model.save()``, a transaction in which that statement has failed can only be rolled back.
    """
    using = using or databases.main()
    times, model = available(due), databases.rows()
    handed = handing.may_hand_over(bus, envelopes, due, error, using)
    with transaction.atomic(using=using, savepoint=False):
        if handed:
            taken = (model(**_columns(bus, each, error), **times, state="handed") for each in envelopes)
            written = [row.pk for row in model.objects.using(using).bulk_create(taken)]
            handing.after_commit(bus, list(zip(written, envelopes, strict=True)), using)
        elif len(envelopes) == 1 and not times:
            columns = _columns(bus, envelopes[0], error)
            unusual = {name: value for name, value in columns.items() if name not in _USUAL or value != _USUAL[name]}
            insert(model, unusual, using=using, notify=to_tell(bus, using))
        else:
            rows = [_columns(bus, each, error) for each in envelopes]
            if times:
                model.objects.using(using).bulk_create(model(**each, **times) for each in rows)
            else:
                insert_all(model, rows, using=using)
            if due is None:
                notify(bus, using)
        events.record((events.event("sent", bus, each) for each in envelopes), of=using)
        _BEFORE_COMMIT()
    return [Receipt(each.id, "accepted", bus) for each in envelopes]


def _columns(bus: str, envelope: Envelope, error: str) -> dict[str, Any]:
    return {**databases.rows().columns_of(bus, envelope), "lane": lane_of(bus, envelope), "last_error": error[:500]}


def cancel(bus: str, message_id: str) -> bool:
    """Delete a message that was never due, and say so in the trail; return whether it was there."""
    return any(_cancel(bus, message_id, using) for using in databases.every())


def _cancel(bus: str, message_id: str, using: str) -> bool:
    waiting = databases.rows().objects.using(using).recallable(bus, message_id)
    with transaction.atomic(using=using):
        found = [row.envelope() for row in waiting]
        gone = bool(found) and bool(waiting.delete()[0])
        events.record((events.event("cancelled", bus, each) for each in found if gone), of=using)
    return gone
