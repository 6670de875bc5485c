"""The processes of the demo, as its supervisor writes them down. Without a supervisor there are none."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from django.conf import settings


def state() -> dict[str, Any]:
    """Return ``{"pids": {name: pid}, "exits": [...]}`` as the supervisor last wrote it."""
    path = settings.GALLERY_SUPERVISOR
    if not path:
        return {"pids": {}, "exits": []}
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {"pids": {}, "exits": []}
    return found


def is_supervised() -> bool:
    """Whether somebody starts a killed worker again."""
    return "worker" in state()["pids"]


def kill_worker() -> int | None:
    """End the worker as a crash would (SIGKILL); return its pid, or ``None`` when there is none to kill."""
    pid = state()["pids"].get("worker")
    if not isinstance(pid, int) or pid <= 1:
        return None
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return pid
