"""``manage.py koan_doctor``: try everything that koan-django stands on, and say what to do about what is not well."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandParser

from koan_django.core import doctor, effective
from koan_django.core.doctor import WORDS
from koan_django.core.texts import counted, one_line

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from koan_django.core.health import Finding


class Command(BaseCommand):
    help = (
        "Connects to everything that koan-django stands on, and names a remedy for what is not well. Ends with 0 when "
        "all is well, 1 with warnings, 2 with errors. `--settings` without a module prints the options in force."
    )
    # What they say is a finding.
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Let ``--settings`` be ours when it stands alone; with a module it is Django's."""
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--settings",
            nargs="?",
            const="",
            help="alone: print the options in force and where each comes from; else the settings module to use",
        )
        parser.add_argument("--format", choices=("text", "json"), default="text", help="text for people, or JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["format"] == "json"
        if options["settings"] == "":
            self._write_settings(effective.settings(), as_json)
            return
        findings = doctor.examine()
        code = doctor.exit_code(findings)
        (self._write_json if as_json else self._write_text)(findings, code)
        if code:
            sys.exit(code)

    def _write_settings(self, found: list[effective.Setting], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([asdict(each) for each in found], indent=1))
            return
        for each in found:
            self.stdout.write(f"{each.path} = {each.value}  ({each.origin})")

    def _write_json(self, findings: list[Finding], code: int) -> None:
        found = [
            {"name": each.name, "level": WORDS[each.status], "message": each.message, "remedy": each.remedy}
            for each in findings
        ]
        self.stdout.write(json.dumps({"exit_code": code, "findings": found}, indent=1))

    def _write_text(self, findings: list[Finding], code: int) -> None:
        for each in findings:
            self.stdout.write(f"{WORDS[each.status]:<8} {each.name:<32} {one_line(each.message)}".rstrip())
            if each.remedy:
                self.stdout.write(f"{'':<8} {'':<32} {one_line(each.remedy)}")
        counts = Counter(WORDS[each.status] for each in findings)
        self.stdout.write(
            f"{counts['ok']} ok, {counted(counts['warning'], 'warning')}, {counted(counts['error'], 'error')}"
        )
