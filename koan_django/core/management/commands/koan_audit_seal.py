"""``manage.py koan_audit_seal``: seal the audit events that have no seal yet, as the job does every minute."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from koan_django.core.audit.sealing import seal
from koan_django.core.texts import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Exit codes: 0 everything is sealed, 1 another process seals now."""

    help = "Seals the audit events that have no seal yet, and prints the head of the chain."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=int, help="seal at most so many batches")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        done = seal(options["limit"])
        if options["format"] == "json":
            self.stdout.write(json.dumps(asdict(done)))
        else:
            self.stdout.write(f"{counted(done.events, 'event')} sealed in {counted(done.batches, 'batch', 'batches')}")
            self.stdout.write(f"head {done.head or '-'}")
        if done.busy:
            self.stderr.write("Another process seals now.")
            raise SystemExit(1)
