"""How the outbox of each bus stands: what waits and for how long, what was set aside, and who publishes it.

Each figure reads some thousand rows at most, by an index: an outbox may hold millions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from koan_django.core.admin import figures
from koan_django.core.admin.figures import Figure, Row, up_to
from koan_django.core.functions import Now
from koan_django.messaging.conf import options
from koan_django.messaging.models import OutboxLane, OutboxMessage, OutboxRelay
from koan_django.messaging.outgoing import databases
from koan_django.messaging.statistics.status import LATE

if TYPE_CHECKING:
    from collections.abc import Iterator


def standing() -> Iterator[Row]:
    """Yield the figures of each bus that has something in an outbox or a relay, for each database that has one."""
    for using in databases.every():
        suffix = "" if using == databases.main() else f" ({using})"
        lanes, relays = _counted(OutboxLane, "lease_until", using), _counted(OutboxRelay, "until", using)
        for bus in sorted(options().buses.keys() | relays.keys()):
            found = _backlog(bus, using)
            if found["waiting"] or found["parked"] or bus in relays:
                yield Row(f"{bus}{suffix}", _figures(found, relays.get(bus, 0), lanes.get(bus, 0)))


def _backlog(bus: str, using: str) -> dict[str, Any]:
    rows, most = OutboxMessage.objects.using(using), figures.MOST + 1
    waiting = rows.pending(bus).order_by("id")[:most]
    found = waiting.aggregate(waiting=Count("pk"), again=Count("pk", filter=Q(tries__gt=0)), oldest=Min("available_at"))
    return found | {"parked": rows.parked(bus).order_by("id")[:most].count()}


def _figures(found: dict[str, Any], relays: int, lanes: int) -> tuple[Figure, ...]:
    lag = _lag(found["oldest"])
    return (
        Figure(_("waiting"), up_to(found["waiting"])),
        Figure(_("the oldest, for"), f"{lag.total_seconds():.0f} s", "degraded" if lag > LATE else ""),
        Figure(_("tried again"), found["again"]),
        Figure(_("parked"), up_to(found["parked"]), "degraded" if found["parked"] else ""),
        Figure(_("relays"), relays, "" if relays or not found["waiting"] else "degraded"),
        Figure(_("lanes held"), lanes),
    )


def _lag(oldest: datetime | None) -> timedelta:
    return timedelta(0) if oldest is None else max(timezone.now() - oldest, timedelta(0))


def _counted(model: type[OutboxLane | OutboxRelay], until: str, using: str) -> dict[str, int]:
    held = model._default_manager.using(using).filter(**{f"{until}__gt": Now()}).order_by()
    return dict(held.values_list("bus").annotate(Count("pk")))
