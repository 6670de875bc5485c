"""``manage.py koan_topology``: what stands on the brokers of the buses, and what should."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from koan_django.core.commands import AuditedCommand
from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact, redact_text
from koan_django.core.texts import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from koan_django.messaging.provisioning.plans import Change, Plan
    from koan_django.messaging.provisioning.targets import Target

NOTHING, UNABLE, DIFFERENT = 0, 1, 2


class Command(AuditedCommand):
    """Exit codes: 0 all is as it is wanted, 1 that cannot be known or done, 2 something is different."""

    help = (
        "Compares what stands on RabbitMQ with what the buses need, adds what is missing, and writes it as definitions "
        "that RabbitMQ imports. Ends with 0 when all is as it is wanted, 1 when that cannot be known or done, 2 when "
        "something is different."
    )

    def is_audited(self, options: dict[str, Any]) -> bool:
        return options["verb"] in ("apply", "migrate") and not options.get("dry_run")

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        helps = {
            "plan": "show what is missing, different, foreign or no longer wanted, and what would mend it",
            "verify": "the same for CI and deployments: nothing is shown when all is as it is wanted",
        }
        for verb, text in helps.items():
            asking = verbs.add_parser(verb, help=text)
            self._add_bus(asking)
            asking.add_argument("--format", choices=("text", "json"), default="text")
            asking.add_argument(
                "--strict", action="store_true", help="count foreign bindings and harmless policies too"
            )
        apply = verbs.add_parser("apply", help="add what is missing; nothing is removed or changed unless forced")
        self._add_bus(apply)
        apply.add_argument("--dry-run", action="store_true", help="only say what would be added")
        apply.add_argument("--adopt", action="store_true", help="put on record as ours what stands as it is wanted")
        apply.add_argument(
            "--force", action="store_true", help="make anew and remove what is on record as ours; asks first"
        )
        apply.add_argument("--no-input", action="store_false", dest="interactive", help="do not ask")
        migrate = verbs.add_parser("migrate", help="make a queue anew as it is wanted, and keep what it holds")
        self._add_bus(migrate)
        migrate.add_argument("queue")
        migrate.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for its consumers to stop")
        migrate.add_argument("--adopt", action="store_true", help="it is ours although that is not on record")
        export = verbs.add_parser("export", help="print the definitions that RabbitMQ imports; asks no broker")
        self._add_bus(export)
        export.add_argument(
            "--policies", action="store_true", help="with the broker's policies for these names; asks it"
        )

    def _add_bus(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bus",
            action="append",
            default=[],
            dest="buses",
            help="this bus, or one broker of it such as main.failover-1; may be repeated",
        )

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            found = self._targets(options["buses"])
            verbs = {
                "plan": self._plan,
                "verify": self._plan,
                "apply": self._apply,
                "migrate": self._migrate,
                "export": self._export,
            }
            verbs[verb](found, {**options, "verb": verb})
        except KoanError as error:
            raise CommandError(redact_text(str(error)), returncode=UNABLE) from error

    def _targets(self, buses: list[str]) -> list[Target]:
        from koan_django.messaging.provisioning.targets import targets

        every = targets()
        found = [target for target in every if not buses or {target.bus, target.label} & set(buses)]
        lacking = sorted(set(buses) - {name for target in found for name in (target.bus, target.label)})
        if lacking or not found:
            known = ", ".join(dict.fromkeys(name for target in every for name in (target.bus, target.label))) or "none"
            which = f"{lacking[0]!r} is no bus" if lacking else "no bus is"
            raise CommandError(f"{which} on RabbitMQ: there is no topology. Those that are: {known}", returncode=UNABLE)
        return found

    # plan and verify

    def _plan(self, found: list[Target], options: dict[str, Any]) -> None:
        plans = [(target, target.plan()) for target in found]  # all of them, or none: half a plan is no plan
        if options["format"] == "json":
            self.stdout.write(json.dumps([_told(*each) for each in plans], indent=2, default=str))
        else:
            for target, made in plans:
                self._tell(target, made, quiet=options["verb"] == "verify")
        changes = [change for _, made in plans for change in made.changes]
        if any(change.counts or options["strict"] for change in changes):
            raise SystemExit(DIFFERENT)

    def _tell(self, target: Target, made: Plan, *, quiet: bool) -> None:
        if quiet and not made.changes:
            return
        self.stdout.write(f"{target.label}  {target.place}  ({made.standing.broker})")
        rows = [_row(change) for change in made.changes]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
        for row in rows:
            self.stdout.write(
                "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            )
        if not rows:
            self.stdout.write("  all is as it is wanted")

    # apply

    def _apply(self, found: list[Target], options: dict[str, Any]) -> None:
        from koan_django.messaging.provisioning.applying import apply

        plans = [(target, target.plan()) for target in found]  # before anything is changed anywhere
        if options["dry_run"]:
            for target, made in plans:
                self._tell(target, made, quiet=False)
            return
        for target, made in plans:
            if options["force"]:
                self._confirm(target, made, options["interactive"])
        differs = False
        for target in found:
            done = apply(target, force=options["force"], adopt=options["adopt"])
            for word, identities in (("removed", done.removed), ("made", done.made), ("adopted", done.adopted)):
                for identity in identities:
                    self.stdout.write(f"{target.label}  {word} {identity.kind} {identity}")
            for text in done.refused:
                self.stderr.write(f"{target.label}  left {redact_text(text)}")
            left = [change for change in done.left if change.counts]
            for change in left:
                self.stderr.write(f"{target.label}  left {redact_text(str(change))}: {_mended(change)}")
            differs = differs or bool(done.refused or left)
            counts = f"{len(done.made)} made, {len(done.removed)} removed, {len(done.refused) + len(left)} left"
            self.stdout.write(f"{target.label}  {counts}")
        if differs:
            raise SystemExit(DIFFERENT)

    def _confirm(self, target: Target, made: Plan, interactive: bool) -> None:
        """Ask before anything is removed, unless the bus or the caller says that nobody is to be asked."""
        doomed = [change for change in made.changes if change.owned and change.remedy in ("force", "migrate")]
        if not doomed or not interactive or target.options.provisioning == "force-recreate":
            return
        for change in doomed:
            self.stdout.write(f"{target.label}  {redact_text(str(change))}")
        if not sys.stdin.isatty() or input("Make anew or remove these? [yes/no] ") != "yes":
            raise CommandError("nothing was changed: confirm it, or give --no-input", returncode=UNABLE)

    # migrate

    def _migrate(self, found: list[Target], options: dict[str, Any]) -> None:
        from koan_django.messaging.provisioning.migrating import migrate

        queue = options["queue"]
        having = [target for target in found if queue in {each.name for each in target.wanted.queues}]
        if len({target.bus for target in having}) != 1:
            which = "more than one bus has" if having else "no bus needs"
            raise CommandError(f"{which} a queue {queue!r}: give its name, and --bus", returncode=UNABLE)
        for target in having:  # one, or the brokers of a list
            done = migrate(target, queue, wait=options["wait"], adopt=options["adopt"], tell=self.stderr.write)
            moved = f"{counted(done.away, 'message was', 'messages were')} moved away and {done.back} back"
            self.stdout.write(f"{queue}  {target.place}  {moved if done.is_done else 'it is as it is wanted'}")

    # export

    def _export(self, found: list[Target], options: dict[str, Any]) -> None:
        from koan_django.messaging.provisioning.definitions import definitions, policies_on

        policies = (
            [each for target in found for each in policies_on(target.management(), target.vhost, target.wanted)]
            if options["policies"]
            else []
        )
        made = definitions([(target.vhost, target.wanted) for target in found], policies)
        self.stdout.write(json.dumps(made, indent=2, sort_keys=True))


def _mended(change: Change) -> str:
    """Return by what a change is mended."""
    return {
        "apply": "apply",
        "force": "apply --force" if change.owned else "by hand: not on record as ours",
        "migrate": f"migrate {change.identity.name}",
        "people": "by hand" if change.counts else "-",
    }[change.remedy]


def _row(change: Change) -> tuple[str, ...]:
    detail = "; ".join(filter(None, [*map(str, change.differences), change.detail]))
    return change.drift, change.identity.kind, str(change.identity), _mended(change), redact_text(detail)


def _told(target: Target, made: Plan) -> dict[str, Any]:
    return {
        "bus": target.bus,
        "label": target.label,
        "place": target.place,
        "broker": made.standing.broker,
        "vhost": made.standing.vhost,
        "changes": [redact(asdict(change)) for change in made.changes],
    }
