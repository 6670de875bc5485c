"""What the live processes run. Each run leaves a line in ``runs.txt``, so that rows can be held against deeds."""

import os
import time
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded

from koan_django.scheduling import Every, Run, scheduled

ROOT = Path(os.environ["KOAN_SCHEDULING_DIR"])
RARELY = Every(hours=1)


def note(*words: object) -> None:
    """Append one line, whole."""
    with (ROOT / "runs.txt").open("a") as lines:
        lines.write(" ".join(map(str, words)) + "\n")


def wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)


@scheduled(Every(seconds=1), name="project.second")
def every_second(run: Run) -> None:
    note("second", run.id, run.fencing_token)


@scheduled(RARELY, on_startup=True, name="project.startup")
def at_startup(run: Run) -> None:
    note("startup", run.id)


@scheduled(RARELY, name="project.slow", critical=True)
def slow(run: Run) -> None:
    """Takes long the first time, and is quick when it is repeated."""
    note("slow", run.id, run.attempt)
    run.progress(1, 2, "half")
    wait(60 if run.attempt == 1 else 0)


@scheduled(RARELY, name="project.steady", timeout=30)
def steady() -> None:
    note("steady", "began")
    wait(3)
    note("steady", "ended")


@scheduled(RARELY, name="project.late", timeout=1)
def late() -> None:
    note("late", "began")
    wait(60)


@scheduled(RARELY, name="project.stubborn", timeout=1)
def stubborn() -> None:
    """Does not end when it is told to."""
    note("stubborn", "began")
    try:
        wait(60)
    except SoftTimeLimitExceeded:
        wait(60)
