"""``manage.py koan_audit_export``: audit events as JSON lines or CSV, oldest first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from koan_django.core.audit.exporting import lines
from koan_django.core.commands import AuditedCommand
from koan_django.core.models import AuditEvent

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from datetime import datetime

    from django.db.models import QuerySet


class Command(AuditedCommand):
    """That somebody exported events is an event of its own."""

    help = "Prints audit events, oldest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
        parser.add_argument("--since", metavar="TIME", help="from this date or time on")
        parser.add_argument("--until", metavar="TIME", help="before this date or time")
        parser.add_argument("--action", help="one action, as storage.move")
        parser.add_argument("--correlation", help="one correlation id")
        parser.add_argument("--output", type=Path, help="a new file instead of the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        found = lines(_chosen(options), options["format"])
        if options["output"] is None:
            for line in found:
                self.stdout.write(line, ending="")
            return
        try:
            with options["output"].open("x", encoding="utf-8", newline="") as file:
                file.writelines(found)
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}", returncode=2) from error
        self.stderr.write(f"written to {options['output']}")


def _chosen(options: dict[str, Any]) -> QuerySet[AuditEvent]:
    wanted = {
        "at__gte": _moment(options["since"]),
        "at__lt": _moment(options["until"]),
        "action": options["action"],
        "correlation_id": options["correlation"],
    }
    return AuditEvent.objects.filter(**{name: value for name, value in wanted.items() if value is not None})


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parse_datetime(text) or parse_datetime(f"{parse_date(text)}T00:00:00")
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"{text!r} is not a time: write 2026-11-25 or 2026-11-25T18:00:00Z", returncode=2)
    return found if timezone.is_aware(found) else timezone.make_aware(found)
