"""``manage.py koan_partitions``: the partitions of ordered groups, and the way on for those that have stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from koan_django.core.commands import AuditedCommand
from koan_django.core.texts import one_line
from koan_django.messaging.models import Partition
from koan_django.messaging.ordering import stopping

if TYPE_CHECKING:
    from argparse import ArgumentParser

UNABLE = 2


class Command(AuditedCommand):
    """Exit codes: 0 done, 2 no such partition has stopped."""

    help = "Lists the partitions of ordered groups; lets stopped ones go on."

    def is_audited(self, options: dict[str, Any]) -> bool:
        return bool(options["verb"] != "list")

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="one line each: who has it, what it waits for")
        listing.add_argument("--format", choices=("text", "json"), default="text")
        for verb, text in (("retry", "try the message again"), ("skip", "make the message a dead letter")):
            way = verbs.add_parser(verb, help=f"let stopped partitions go on: {text}")
            way.add_argument("group", help="the group that stopped")
            way.add_argument("number", nargs="?", type=int, help="one partition; without it all that have stopped")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "list":
            self._list(options["format"])
            return
        found = stopping.stopped(options["group"])
        if options["number"] is not None:
            found = found.filter(number=options["number"])
        partitions = list(found)
        if not partitions:
            raise CommandError("no such partition has stopped; `koan_partitions list` shows all", returncode=UNABLE)
        for partition in partitions:
            stopping.go_on(partition, skip=verb == "skip")
            self.stdout.write(one_line(f"{partition}: {verb} {partition.alias} {partition.message_id}"))

    def _list(self, style: str) -> None:
        found = [_described(row) for row in Partition.objects.all().primary().order_by("bus", "group", "number")]
        if style == "json":
            self.stdout.write(json.dumps(found, default=str, indent=2))
            return
        for each in found:
            why = f"  {each['alias']} {each['message_id']}: {each['error']}" if each["message_id"] else ""
            words = f"{each['state']:7}  {each['bus']}/{each['group']}.p{each['number']}  {each['owner']}{why}"
            self.stdout.write(one_line(words))


def _described(row: Partition) -> dict[str, Any]:
    names = ("bus", "group", "number", "state", "alias", "message_id", "error", "since")
    return {**{name: getattr(row, name) for name in names}, "owner": row.lease_owner if row.lease_until else ""}
