"""What became of every upload, counted from rows and files."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from sampleproject.gallery import report


class Command(BaseCommand):
    help = "Print what became of every upload as JSON; exit code 1 when something does not hold."

    def handle(self, **options: Any) -> None:
        found = report.build()
        problems = report.problems(found)
        self.stdout.write(json.dumps({**found, "problems": problems}, indent=2, ensure_ascii=False, default=str))
        if problems:
            raise SystemExit(1)
