"""``manage.py koan_status``: what waits where, and what needs attention."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from koan_django.core import hints
from koan_django.core.redaction import redact_text
from koan_django.core.texts import counted, one_line
from koan_django.messaging.statistics.neighbours import Neighbour, neighbours
from koan_django.messaging.statistics.status import BusStatus, Status, status

from .koan_handlers import described

if TYPE_CHECKING:
    from argparse import ArgumentParser

TROUBLED, UNABLE = 1, 2


class Command(BaseCommand):
    """Exit codes: 0 all is well, 1 something needs attention, 2 the database could not be asked."""

    help = "Shows depths, the outbox, dead letters and handlers, and what of them needs attention, with what to do."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found, beside = status(), neighbours()
        except Error as error:
            hint = hints.explain(error)
            advice = f"\n{hint.advice()}" if hint else ""
            raise CommandError(redact_text(f"{type(error).__name__}: {error}{advice}"), returncode=UNABLE) from error
        if options["format"] == "json":
            self.stdout.write(json.dumps(_plain(found, beside), default=str, indent=2))
        else:
            self._tell(found, beside)
        if _troubles(found, beside):
            raise SystemExit(TROUBLED)

    def _tell(self, found: Status, beside: list[Neighbour]) -> None:
        for bus in found.buses:
            breaker = f", breaker {bus.breaker}" if bus.breaker else ""
            self.stdout.write(f"bus {bus.alias}  {bus.place}{breaker}")
            if bus.error:
                self.stdout.write(one_line(f"  unknown: {bus.error}"))
            for depth in bus.depths:
                self.stdout.write(one_line(f"  {depth.group}  {depth}"))
            if bus.pending or bus.parked:
                lag = f", the oldest due for {bus.lag.total_seconds():.0f} s" if bus.lag else ""
                self.stdout.write(f"  outbox  {bus.pending} pending{lag}, {bus.parked} parked")
        for each in beside:
            self.stdout.write(one_line(f"{each.name}  {each.text}"))
        self.stdout.write(f"{counted(len(found.handlers), 'handler')}, {counted(found.dead, 'dead letter')}")
        for trouble in _troubles(found, beside):
            self.stdout.write(one_line(f"! {trouble}"))


def _troubles(found: Status, beside: list[Neighbour]) -> list[str]:
    return [*found.troubles, *(trouble for each in beside for trouble in each.troubles)]


def _plain(found: Status, beside: list[Neighbour]) -> dict[str, Any]:
    return {
        "buses": [_plain_bus(bus) for bus in found.buses],
        "handlers": [described(each) for each in found.handlers],
        "dead_letters": found.dead,
        "leftovers": [asdict(each) for each in found.leftovers],
        "stopped_partitions": [
            {"bus": row.bus, "group": row.group, "number": row.number, "alias": row.alias, "message_id": row.message_id}
            for row in found.stopped
        ],
        "beside": {each.name: each.figures for each in beside},
        "troubles": _troubles(found, beside),
    }


def _plain_bus(bus: BusStatus) -> dict[str, Any]:
    return {
        "alias": bus.alias,
        "place": bus.place,
        "error": bus.error,
        "breaker": bus.breaker,
        "open_breakers": [dict(zip(("name", "state", "why"), each, strict=True)) for each in bus.broken],
        "outbox": {"pending": bus.pending, "lag_seconds": bus.lag.total_seconds(), "parked": bus.parked},
        "groups": [
            {
                "group": depth.group,
                "waiting": _known(depth.waiting),
                "in_progress": _known(depth.in_progress),
                "consumers": _known(depth.consumers),
                "apart": dict(depth.sections),
            }
            for depth in bus.depths
        ],
    }


def _known(count: int) -> int | None:
    return None if count < 0 else count
