"""How the outbox of each bus stands: what waits and for how long, what was set aside, and who publishes it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from koan_django.core.admin.figures import Figure, Row
from koan_django.core.functions import Now
from koan_django.messaging.models import OutboxLane, OutboxMessage, OutboxRelay
from koan_django.messaging.statistics.status import LATE

if TYPE_CHECKING:
    from collections.abc import Iterator


def standing() -> Iterator[Row]:
    """Yield the figures of each bus that has something in the outbox or a relay."""
    pending = Q(state="pending")
    rows = OutboxMessage.objects.order_by().values("bus")
    found = rows.annotate(
        waiting=Count("pk", filter=pending),
        again=Count("pk", filter=pending & Q(tries__gt=0)),
        parked=Count("pk", filter=Q(state="parked")),
        oldest=Min("available_at", filter=pending & Q(available_at__lte=Now())),
    )
    known: dict[str, dict[str, Any]] = {row["bus"]: {**row} for row in found}
    lanes, relays = _counted(OutboxLane, "lease_until"), _counted(OutboxRelay, "until")
    for bus in sorted(known.keys() | relays.keys()):
        row = known.get(bus, {"waiting": 0, "again": 0, "parked": 0, "oldest": None})
        lag = _lag(row["oldest"])
        yield Row(
            bus,
            (
                Figure(_("waiting"), row["waiting"]),
                Figure(_("the oldest, for"), f"{lag.total_seconds():.0f} s", "degraded" if lag > LATE else ""),
                Figure(_("tried again"), row["again"]),
                Figure(_("parked"), row["parked"], "degraded" if row["parked"] else ""),
                Figure(_("relays"), relays.get(bus, 0), "" if relays.get(bus) or not row["waiting"] else "degraded"),
                Figure(_("lanes held"), lanes.get(bus, 0)),
            ),
        )


def _lag(oldest: datetime | None) -> timedelta:
    return timedelta(0) if oldest is None else max(timezone.now() - oldest, timedelta(0))


def _counted(model: type[OutboxLane | OutboxRelay], until: str) -> dict[str, int]:
    held = model._default_manager.filter(**{f"{until}__gt": Now()}).order_by()
    return dict(held.values_list("bus").annotate(Count("pk")))
