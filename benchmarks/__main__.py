"""``python -m benchmarks [AREA ...]``: measures, shows, keeps; the exit code is 1 when a goal was missed."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack

from . import report
from .harness import Case, Outcome, measure
from .servers import started

AREAS = ("inbox", "media", "messaging", "outbox", "secrets", "storage")


def main(arguments: list[str]) -> int:
    """Run the areas asked for, or all; each in a process of its own, so that none inherits another's threads."""
    asked = _parse(arguments)
    if len(asked.areas) == 1:
        return _run(asked.areas[0], asked.case, asked.rounds)
    words = [
        *(["--case", asked.case] if asked.case else []),
        *(["--rounds", str(asked.rounds)] if asked.rounds else []),
    ]
    codes = [subprocess.call([sys.executable, "-m", "benchmarks", area, *words]) for area in asked.areas or AREAS]
    return max(codes)


def _run(area: str, wanted: str, rounds: int | None) -> int:
    module = importlib.import_module(f"benchmarks.areas.{area}")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="koan-bench-"))
        os.environ |= {"DJANGO_SETTINGS_MODULE": "benchmarks.project.settings", "BENCH_DIR": folder}
        os.environ |= stack.enter_context(started(module.SERVERS))
        _prepare()
        loads = [report.load()]
        cases: list[Case] = [case for case in module.cases() if wanted in case.name]
        outcomes = [found for case in cases if (found := measured(area, case, rounds)) is not None]
        loads.append(report.load())
    print(f"\n{report.table(area, outcomes)}\n")
    if not wanted:
        report.keep(area, outcomes, loads)
    failed = len(cases) - len(outcomes)
    if failed:
        print(f"{failed} of {len(cases)} cases could not be measured, see above", file=sys.stderr)
    return 0 if not failed and all(outcome.reached for outcome in outcomes) else 1


def _prepare() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


def measured(area: str, case: Case, rounds: int | None = None) -> Outcome | None:
    """Return the outcome, or ``None`` for a case that failed: it must not cost the others theirs."""
    print(f"{area}:{case.name} ", end="", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        outcome = measure(case, rounds)
    except Exception:
        print("FAILED", file=sys.stderr)
        traceback.print_exc()
        return None
    print(f"{outcome.ratio:.2f} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
    return outcome


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("areas", nargs="*", choices=[*AREAS, []], metavar="AREA", help=", ".join(AREAS))
    parser.add_argument(
        "--case", default="", help="only cases whose name holds this; the kept results stay as they are"
    )
    parser.add_argument("--rounds", type=int, help="how many turns of each")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
