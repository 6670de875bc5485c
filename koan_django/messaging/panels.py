"""Messaging on the Overview page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from koan_django.core.overview import Line, panel

from .buses import registry
from .outgoing import databases
from .statistics import asking

if TYPE_CHECKING:
    from collections.abc import Iterator


@panel("koan_messaging", "Messaging", order=10)
def messaging_panel() -> Iterator[Line]:
    """What waits on each bus, and what could not be handled."""
    from .models import DeadLetter, OutboxMessage

    outbox = reverse("admin:koan_messaging_outboxmessage_changelist")
    buses = registry.all_buses()
    answers = asking.answers(buses)
    for bus in buses:
        yield Line(f"Bus {bus.alias}", bus.place)
        answer = answers[bus.alias]
        if answer.error:
            yield Line(f"{bus.alias} / groups", answer.error, "unknown")
        for depth in answer.depths:
            url = reverse("admin:koan_messaging_queueddelivery_changelist") + f"?group={depth.group}"
            yield Line(f"{bus.alias} / {depth.group}", str(depth), "degraded" if depth.note else "", url)
        pending = sum(OutboxMessage.objects.using(using).pending(bus.alias).count() for using in databases.every())
        if pending:
            yield Line(f"Outbox of {bus.alias}", f"{pending} waiting", "", f"{outbox}?bus={bus.alias}")
    parked = sum(OutboxMessage.objects.using(using).filter(state="parked").count() for using in databases.every())
    if parked:
        yield Line("Parked in the outbox", str(parked), "degraded", f"{outbox}?state__exact=parked")
    dead = DeadLetter.objects.all().dead().count()
    url = reverse("admin:koan_messaging_deadletter_changelist") + "?state__exact=dead"
    yield Line("Dead letters", str(dead), "degraded" if dead else "healthy", url)
