"""What a test looks for after a process should be gone."""

from __future__ import annotations

import os
import subprocess


def alive(pid: int) -> bool:
    """Whether ``pid`` still does something: a zombie that nobody has reaped yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not state.stdout.strip().startswith("Z") and bool(state.stdout.strip())


def mentioning(text: str) -> list[str]:
    """Return the processes that have ``text`` in their command line or environment."""
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if text in line and " ps axeww" not in line]
