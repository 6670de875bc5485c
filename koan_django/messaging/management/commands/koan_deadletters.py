"""``manage.py koan_deadletters``: what could not be handled, why, and another try for it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from koan_django.core.commands import AuditedCommand, ending_on_signals
from koan_django.core.texts import counted, one_line
from koan_django.messaging.dead import deadletters, replaying
from koan_django.messaging.dead.editing import edited
from koan_django.messaging.dead.replaying import Progress, Selection
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.models import DeadLetter

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from datetime import datetime

LEFT, UNABLE = 1, 2
CHANGING = ("replay", "discard", "resend")
FILTERS = {
    "bus": "the alias of the bus",
    "group": "the group that gave up",
    "alias": "the alias of the message's class",
    "handler": "the name of the handler",
    "reason": "why it died",
    "fingerprint": "one cause; in full, as `causes` shows it",
    "tenant": "the tenant of the message",
}


class Command(AuditedCommand):
    """Exit codes: 0 all that was asked, 1 some were left as they are, 2 nothing could be done.

    Nothing could be done, too, where a filter names what no dead letter on record has, or nothing is left to change.
    """

    help = "Lists dead letters and their causes, replays or discards them, and sends one again with another body."

    def is_audited(self, options: dict[str, Any]) -> bool:
        return options["verb"] in CHANGING and not options.get("dry_run")

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        helps = {
            "list": "one line each, the newest first",
            "causes": "grouped by what they died of",
            "replay": "send them to their groups again, with the same ids",
            "discard": "give them up; they stay on record until retention removes them",
        }
        for verb, text in helps.items():
            self._add_filters(verbs.add_parser(verb, help=text))
        for verb in ("replay", "discard"):
            changing = verbs.choices[verb]
            changing.add_argument("--all", action="store_true", help="allow it without any filter")
            changing.add_argument("--dry-run", action="store_true", help="only say how many")
            changing.add_argument("--rate", type=float, metavar="N", help="at most N a second")
        verbs.choices["replay"].add_argument(
            "--forgotten", action="store_true", help="also what is older than the inbox remembers"
        )
        resend = verbs.add_parser("resend", help="send one again with the body that stands on the standard input")
        resend.add_argument("id", type=int, help="as `list` shows it")

    def _add_filters(self, parser: ArgumentParser) -> None:
        parser.add_argument("--id", type=int, action="append", default=[], dest="ids", help="may be repeated")
        for name, text in FILTERS.items():
            choices = DeadLetter.Reason.values if name == "reason" else None
            parser.add_argument(f"--{name}", default="", help=text, choices=choices)
        parser.add_argument("--since", type=_moment, help="ISO 8601; dead at or after it")
        parser.add_argument("--until", type=_moment, help="ISO 8601; dead before it")
        parser.add_argument("--limit", type=int, help="at most so many")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        if verb == "resend":
            self._resend(options["id"])
            return
        chosen = Selection(
            ids=tuple(options["ids"]),
            since=options["since"],
            until=options["until"],
            **{name: options[name] for name in FILTERS},
        )
        self._look(verb, chosen)
        if verb == "list":
            self._list(chosen, options)
        elif verb == "causes":
            self._causes(chosen, options)
        else:
            self._change(verb, chosen, options)

    def _look(self, verb: str, chosen: Selection) -> None:
        """Say so where nothing is selected; what is misspelt, or left nothing to change, is an error."""
        if chosen.rows().exists():
            return
        unknown = chosen.unknown()
        if unknown:
            found = " and ".join(f"--{name} {value}" for name, value in unknown)
            raise CommandError(
                f"no dead letter on record, settled ones included, has {found}: `koan_deadletters list` shows them",
                returncode=UNABLE,
            )
        if verb in CHANGING and not chosen.is_everything:
            raise CommandError("no dead letter matches, or somebody has settled those that did", returncode=UNABLE)
        self.stderr.write("there is no dead letter" if chosen.is_everything else "no dead letter matches")

    def _list(self, chosen: Selection, options: dict[str, Any]) -> None:
        names = ("id", "dead_at", "group", "alias", "message_id", "reason", "attempt", "error_type", "error")
        for row in chosen.rows().order_by("-pk").values(*names)[: options["limit"]].iterator():
            if options["format"] == "json":
                self.stdout.write(json.dumps(row, default=str))
            else:
                first = _first_line(row["error"])
                words = f"{row['id']}  {row['dead_at']:%Y-%m-%d %H:%M:%S}  {row['group']}  {row['alias']}  {first}"
                self.stdout.write(one_line(words))

    def _causes(self, chosen: Selection, options: dict[str, Any]) -> None:
        found = replaying.causes(chosen)[: options["limit"]]
        if options["format"] == "json":
            self.stdout.write(json.dumps([asdict(each) for each in found], default=str, indent=2))
            return
        for each in found:
            first = _first_line(each.example)
            words = f"{each.count}  {each.fingerprint}  {each.group}  {each.handler or '-'}  {first}"
            self.stdout.write(one_line(words))

    def _change(self, verb: str, chosen: Selection, options: dict[str, Any]) -> None:
        if chosen.is_everything and not options["all"]:
            raise CommandError("say which: give a filter, or --all for all of them", returncode=UNABLE)
        if options["dry_run"]:
            count = chosen.rows().count()
            asked = count if options["limit"] is None else min(count, options["limit"])
            self._tell(
                {"would_" + verb: asked}, f"{counted(asked, 'dead letter')} would be {_done(verb)}", options["format"]
            )
            return
        replay = partial(replaying.replay_all, forgotten=options.get("forgotten", False))
        act = replay if verb == "replay" else replaying.discard_all
        with ending_on_signals() as stopping:  # the batch at hand is finished
            progress = act(
                chosen,
                limit=options["limit"],
                rate=options["rate"],
                is_stopping=lambda: bool(stopping),
                tell=self._progress,
            )
        left = counted(progress.failed, "left as it is", "left as they are")
        text = f"{counted(progress.done, 'dead letter')} {_done(verb)}, {left}"
        self._tell(asdict(progress), text + ("; stopped before the end" if progress.stopped else ""), options["format"])
        for error in progress.errors:
            self.stderr.write(one_line(error))
        if progress.failed or progress.stopped:
            raise SystemExit(LEFT)

    def _resend(self, pk: int) -> None:
        import sys

        dead = DeadLetter.objects.all().primary().dead().filter(pk=pk).first()
        if dead is None:
            raise CommandError(f"there is no dead letter {pk}, or somebody has settled it", returncode=UNABLE)
        try:
            receipt = deadletters.replay(dead, body=edited(dead, sys.stdin.read()))
        except MessagingError as error:
            raise CommandError(str(error), returncode=UNABLE) from error
        self.stdout.write(receipt.id)

    def _tell(self, data: dict[str, Any], text: str, style: str) -> None:
        self.stdout.write(json.dumps(data) if style == "json" else text)

    def _progress(self, progress: Progress) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{progress.done} done, {progress.failed} left", ending="")


def _done(verb: str) -> str:
    return {"replay": "replayed", "discard": "discarded"}[verb]


def _moment(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None:
        raise ValueError(text)
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def _first_line(text: str) -> str:
    """The first line of an error, with its remedy in most cases; a mark where it was cut."""
    first = text.partition("\n")[0]
    return first if len(first) <= 300 else f"{first[:299]}…"
