"""``koan_explain``: what is known about a failure."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from koan_django.core import classification, hints  # noqa: F401  # classification brings the hints of core

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Says what is known about a failure: what it means, and what to do."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "failure", nargs="?", help="a code, or a line of a log or record as `Name: text`; all without"
        )
        parser.add_argument("--format", choices=["text", "json"], default="text", help="how to print it")

    def handle(self, *args: Any, **options: Any) -> None:
        found = _found(options["failure"])
        if options["format"] == "json":
            self.stdout.write(json.dumps([asdict(hint) for hint in found], indent=2))
            return
        for hint in found:
            self.stdout.write(hint.advice())


def _found(failure: str | None) -> list[hints.Hint]:
    if failure is None:
        return hints.catalogue()
    hint = hints.get(failure) or hints.explain_text(failure)
    if hint is None:
        raise CommandError("nothing is known about this failure")
    return [hint]
