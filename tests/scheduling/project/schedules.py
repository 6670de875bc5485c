"""What the live processes run. Each run leaves a line in ``runs.txt``, so that rows can be held against deeds."""

import os
import time
from pathlib import Path

from koan_django.scheduling import Every, Run, scheduled

ROOT = Path(os.environ["KOAN_SCHEDULING_DIR"])


def note(*words: object) -> None:
    """Append one line, whole."""
    with (ROOT / "runs.txt").open("a") as lines:
        lines.write(" ".join(map(str, words)) + "\n")


@scheduled(Every(seconds=1), name="project.second")
def every_second(run: Run) -> None:
    note("second", run.id, run.fencing_token)
    run.result(fence=run.fencing_token)


@scheduled(Every(hours=1), on_startup=True, name="project.startup")
def at_startup(run: Run) -> None:
    note("startup", run.id, run.trigger)


@scheduled(Every(hours=1), name="project.slow", critical=True)
def slow(run: Run) -> None:
    """Takes long the first time, and is quick when it is repeated."""
    note("slow", run.id, run.attempt)
    run.progress(1, 2, "half")
    deadline = time.monotonic() + (60 if run.attempt == 1 else 0)
    while time.monotonic() < deadline:
        time.sleep(0.05)


@scheduled(Every(hours=1), name="project.late", timeout=1)
def late() -> None:
    note("late", "began")
    time.sleep(30)
