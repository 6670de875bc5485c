"""When a worker came to a message: from one marked message to the next it is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

_FOLDER = os.environ.get("BENCH_MARKS", "")
_MARKED = frozenset(map(int, os.environ.get("BENCH_MARKED", "").split()))


def mark(number: int) -> None:
    """Note the time if the message is one of those."""
    if number in _MARKED:
        (Path(_FOLDER) / str(number)).write_text(str(time.time()))


def marked(folder: Path, number: int) -> float | None:
    """Return when the message was come to."""
    try:
        return float((folder / str(number)).read_text())
    except (FileNotFoundError, ValueError):  # not yet, or not yet written
        return None
