"""``manage.py koan_storage_doctor``: try what the stores behind the profiles do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from koan_django.storage.doctor import Finding, examine, exit_code
from koan_django.storage.exceptions import ProfileError
from koan_django.storage.profile import profiles

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Writes, reads and removes small objects to find out what the store of each profile really does."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("profile", nargs="*", help="the profiles to try; all without any")
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chosen = [profiles[name] for name in options["profile"] or profiles]
        except ProfileError as error:
            raise CommandError(str(error), returncode=2) from error
        findings = [finding for profile in chosen for finding in examine(profile)]
        if options["format"] == "json":
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1))
        else:
            for finding in findings:
                self._write(finding)
        if code := exit_code(findings):
            sys.exit(code)

    def _write(self, finding: Finding) -> None:
        text = f": {finding.text}" if finding.text else ""
        self.stdout.write(f"{finding.profile:<12} {finding.subject:<17} {finding.state}{text}")
        if finding.fix:
            self.stdout.write(f"{'':<12} {'':<17} {finding.fix}")
