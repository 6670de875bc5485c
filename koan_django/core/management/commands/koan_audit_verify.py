"""``manage.py koan_audit_verify``: read the audit chain from its beginning and say what does not fit."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from koan_django.core.audit.verifying import Head, Report, verify
from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact_text
from koan_django.core.texts import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from koan_django.core.models import AuditSeal

BROKEN, UNABLE = 1, 2
PROGRESS_SECONDS = 1.0


class Command(BaseCommand):
    """Exit codes: 0 the chain is intact, 1 something does not fit, 2 it could not be verified."""

    help = "Verifies the audit chain. Note the head it prints somewhere else, and give it to the next run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--head", metavar="NUMBER:HASH", help="an end that was noted before")
        parser.add_argument("--unkeyed-through", type=int, default=0, metavar="NUMBER", help="older seals need no key")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            head = Head.parse(options["head"]) if options["head"] else None
            report = verify(head, unkeyed_through=options["unkeyed_through"], progress=self._progress())
        except ValueError as error:
            raise CommandError(str(error), returncode=UNABLE) from error
        except (KoanError, DatabaseError) as error:
            text = f"the chain could not be verified: {redact_text(str(error))}"
            raise CommandError(text, returncode=UNABLE) from error
        if options["format"] == "json":
            self.stdout.write(json.dumps({"intact": report.is_intact, **asdict(report)}, indent=2))
        else:
            self._tell(report)
        if not report.is_intact:
            raise SystemExit(BROKEN)

    def _tell(self, report: Report) -> None:
        for finding in report.findings:
            self.stdout.write(f"{finding.kind}: {finding.text}")
        if report.forgotten_through:
            self.stdout.write(f"seals 1 to {report.forgotten_through} were forgotten by retention")
        verdict = "intact" if report.seals else "nothing is sealed yet; beat does it every minute, or koan_audit_seal"
        if not report.is_intact:
            verdict = f"NOT INTACT, {counted(len(report.findings), 'finding')}"
        self.stdout.write(f"{counted(report.seals, 'seal')} of {counted(report.events, 'event')}: {verdict}")
        self.stdout.write(f"{counted(report.waiting, 'event waits for its seal', 'events wait for their seal')}")
        self.stdout.write(f"head {report.head or '-'}")

    def _progress(self) -> Any:
        """Tell how far it is, once a second, to somebody who watches."""
        last = time.monotonic()

        def tell(seal: AuditSeal) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_SECONDS:
                last = time.monotonic()
                self.stderr.write(f"seal {seal.number}, event {seal.last_id}")

        return tell if self.stderr.isatty() else None
