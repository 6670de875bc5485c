"""``manage.py koan_messages``: the contract of the messages, for people, other teams and CI."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from koan_django.core.exceptions import KoanError
from koan_django.core.texts import counted
from koan_django.messaging import handlers, messages
from koan_django.messaging.contracts import Change, Snapshot, SnapshotError, changes, document

if TYPE_CHECKING:
    from argparse import ArgumentParser

DIFFERENT, UNABLE = 1, 2
FILE = "messages.json"


class Command(BaseCommand):
    """Exit codes of ``check``: 0 nothing breaks, 1 something does, 2 there is nothing to compare with."""

    help = "Lists messages, exports their schemas, and checks that no change breaks what is under way."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="show every message with its version and its groups")
        export = actions.add_parser("export", help="print JSON Schema or AsyncAPI 3.0")
        export.add_argument("--format", choices=("json-schema", "asyncapi"), default="asyncapi")
        export.add_argument("--title", default="Messages")
        export.add_argument("--release", default="1", help="the version that the document says")
        write = actions.add_parser("snapshot", help="write the file that check compares with; commit it")
        write.add_argument("--file", type=Path, default=Path(FILE))
        check = actions.add_parser("check", help="compare the messages with the committed snapshot")
        check.add_argument("--file", type=Path, default=Path(FILE))
        check.add_argument("--format", choices=("text", "json"), default="text")
        check.add_argument("--current", action="store_true", help="fail too when the snapshot is not up to date")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            {"list": self._list, "export": self._export, "snapshot": self._snapshot, "check": self._check}[action](
                options
            )
        except (KoanError, SnapshotError, OSError) as error:
            raise CommandError(str(error), returncode=UNABLE) from error

    def _list(self, _options: dict[str, Any]) -> None:
        for cls in sorted(messages.classes(), key=lambda each: each._meta.alias):
            alias = cls._meta.alias
            groups = sorted({each.group for each in handlers.every() if each.receives(alias)})
            self.stdout.write(f"{alias}  version {cls._meta.version}  {', '.join(groups) or 'handled by nobody here'}")

    def _export(self, options: dict[str, Any]) -> None:
        if options["format"] == "asyncapi":
            found: Any = document(options["title"], options["release"])
        else:
            found = {alias: each.schema for alias, each in Snapshot.of_project().contracts.items()}
        self.stdout.write(json.dumps(found, indent=2))

    def _snapshot(self, options: dict[str, Any]) -> None:
        found = Snapshot.of_project()
        found.write(options["file"])
        self.stderr.write(f"{counted(len(found.contracts), 'message')} in {options['file']}")

    def _check(self, options: dict[str, Any]) -> None:
        found = changes(Snapshot.read(options["file"]), Snapshot.of_project())
        breaking = [each for each in found if each.breaking]
        if options["format"] == "json":
            self.stdout.write(json.dumps({"breaking": len(breaking), "changes": [asdict(c) for c in found]}, indent=2))
        else:
            self._tell(found, options["file"])
        if breaking or (found and options["current"]):
            raise SystemExit(DIFFERENT)

    def _tell(self, found: list[Change], file: Path) -> None:
        for each in found:
            self.stdout.write(f"{'BREAKS' if each.breaking else 'fits  '}  {each}")
        breaking = sum(each.breaking for each in found)
        if breaking:
            told = counted(breaking, "change breaks", "changes break")
            self.stdout.write(f"{told}: raise Meta.version and write an upcaster, or take that back")
        elif found:
            self.stdout.write(f"nothing breaks; {file} is not up to date: koan_messages snapshot")
        else:
            self.stdout.write(f"the messages are those of {file}")
