"""``manage.py koan_adopt``: what the apps would change in this project, as a diff. Nothing is written."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from koan_django.core.adoption.diffing import diff
from koan_django.core.adoption.plans import PLANS, make
from koan_django.core.adoption.project import Project
from koan_django.core.exceptions import KoanError

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from koan_django.core.adoption.changes import Plan

CHANGES, TROUBLE = 1, 2


class Command(BaseCommand):
    """Exit codes, as of ``diff``: 0 nothing to change, 1 there is, 2 the project cannot be read."""

    help = "Print what each app of koan-django would change in this project, as a diff. Writes nothing."
    requires_system_checks = ()  # what they complain of need not keep anybody from reading

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--app", action="append", choices=sorted(PLANS), help="only this app and core; may be repeated"
        )
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project(Path.cwd().resolve())
        try:
            plans = make(project, options["app"] or list(PLANS))
        except KoanError as error:
            raise CommandError(str(error), returncode=TROUBLE) from error
        files = {os.path.relpath(path, project.root): source for path, source in sorted(project.sources.items())}
        diffs = {name: found for name, source in files.items() if (found := diff(source, name))}
        if options["format"] == "json":
            self.stdout.write(json.dumps(_report(plans, diffs), indent=2))
        else:
            self._write(plans, diffs)
        if diffs:
            raise SystemExit(CHANGES)

    def _write(self, plans: list[Plan], diffs: dict[str, str]) -> None:
        """Explanations as comments before the diff, so that ``patch`` takes the whole of it."""
        for plan in plans:
            self.stdout.write(f"# koan_django.{plan.app}")
            for sign, lines in (("+", plan.changes), ("?", plan.notes)):
                for line in lines:
                    self.stdout.write(f"#   {sign} {line}")
            if not plan.changes:
                self.stdout.write("#   nothing to change")
        if diffs:
            self.stdout.write(f"#\n# {_install(plans)}")
            self.stdout.write("# Lines with + are in the diff below, lines with ? are for you to decide. To apply it:")
            self.stdout.write("#   python manage.py koan_adopt | patch -p1, then makemigrations, migrate and check")
        for text in diffs.values():
            self.stdout.write(text, ending="")


def _install(plans: list[Plan]) -> str:
    extras = ",".join(sorted({plan.extra for plan in plans if plan.extra}))
    # It is not published yet, and nobody should be sent to whoever takes the name.
    return f'pip install "path/to/koan-django[{extras}]"' if extras else "pip install path/to/koan-django"


def _report(plans: list[Plan], diffs: dict[str, str]) -> dict[str, Any]:
    return {
        "install": _install(plans),
        "apps": [asdict(plan) for plan in plans],
        "files": [{"path": path, "diff": text} for path, text in diffs.items()],
    }
