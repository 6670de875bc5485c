"""``manage.py koan_handlers``: what each handler does, and the switch that keeps messages from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from koan_django.core.commands import AuditedCommand
from koan_django.core.texts import one_line
from koan_django.messaging.control import pausing
from koan_django.messaging.control.standing import Standing, standings
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.models import RegisteredHandler

if TYPE_CHECKING:
    from argparse import ArgumentParser

UNABLE = 2
COUNTERS = ("handled", "retried", "dead", "duplicates")


class Command(AuditedCommand):
    """Exit codes: 0 done, 2 there is no such handler, or it is paused or running already."""

    help = "Lists handlers with their counters, pauses one in all workers and resumes it."

    def is_audited(self, options: dict[str, Any]) -> bool:
        return bool(options["verb"] != "list")

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="one line each: state, bus, group, what it did")
        listing.add_argument("--format", choices=("text", "json"), default="text")
        pause = verbs.add_parser("pause", help="hand nothing more to it; its messages wait")
        pause.add_argument("name", help="as `list` shows it")
        pause.add_argument("--reason", default="", help="what the others should know")
        verbs.add_parser("resume", help="let it work again").add_argument("name", help="as `list` shows it")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list(options["format"])
            return
        try:
            if verb == "pause":
                pausing.pause(options["name"], options["reason"])
            else:
                pausing.resume(options["name"])
        except MessagingError as error:
            raise CommandError(str(error), returncode=UNABLE) from error
        self.stdout.write(f"{options['name']} is {verb}d; workers notice within two seconds")

    def _list(self, style: str) -> None:
        found = standings(RegisteredHandler.objects.all().primary())
        if style == "json":
            self.stdout.write(json.dumps([described(each) for each in found], default=str, indent=2))
            return
        for each in found:
            row = each.row
            did = ", ".join(f"{getattr(row, name)} {name}" for name in COUNTERS if getattr(row, name))
            why = f"  ({each.why})" if each.why else ""
            words = f"{each.state:9}  {row.bus}/{row.group}  {row.name}  {did or 'nothing yet'}{why}"
            self.stdout.write(one_line(words))


def described(each: Standing) -> dict[str, Any]:
    """Return a handler as plain values."""
    row = each.row
    return {
        "name": row.name,
        "state": each.state,
        "why": each.why,
        "bus": row.bus,
        "group": row.group,
        "receives": row.binding,
        **{name: getattr(row, name) for name in COUNTERS},
        "mean_ms": None if row.mean_ms is None else round(row.mean_ms, 3),
        "worst_ms": round(row.worst_ms, 3),
        "last_handled_at": row.last_handled_at,
        "last_error": row.last_error,
    }
