"""``manage.py koan_storage_sync``: bring the profile rows in line with the settings, as ``migrate`` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS

from koan_django.core.commands import AuditedCommand
from koan_django.storage.sync import sync

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(AuditedCommand):
    help = "Writes a row for each storage profile of the settings and marks those that are gone as missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="the database to write to")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def is_audited(self, options: dict[str, Any]) -> bool:
        return not options["dry_run"]

    def handle(self, *args: Any, **options: Any) -> None:
        changes = sync(using=options["database"], dry_run=options["dry_run"])
        if options["format"] == "json":
            self.stdout.write(json.dumps(changes, sort_keys=True))
            return
        for name, change in sorted(changes.items()):
            self.stdout.write(f"{name}: {change}")
