"""Ends process groups when the process that started them is gone, however it went.

The guard is a small process of its own. It hears of each group on a pipe whose other end only the starter holds, so
even ``kill -9`` of the starter ends the pipe, and with it the groups. A parent-death signal would reach the direct
children alone, on Linux alone, and would fire as soon as the thread that started them ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

#: How long a group may take after SIGTERM before SIGKILL.
GRACE_SECONDS = 5.0


class Guard:
    """Watches process groups on behalf of this process. The group of a child is its pid if it leads a session."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this file, nothing from outside
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The guard's own process."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """End ``group`` should this process die."""
        self._say(f"+{group}\n")

    def release(self, group: int) -> None:
        """Forget ``group``: it has ended, and its number may come to mean another."""
        self._say(f"-{group}\n")

    def close(self) -> None:
        """End the guard, and every group that was not released."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody ended the guard: the work goes on without
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether it still had a member. Signal 0 only asks."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_groups(groups: set[int], seconds: float = GRACE_SECONDS) -> None:
    """Ask the leader of each group to end, what it leaves behind after it, and kill what is left after ``seconds``."""
    for group in groups:
        _signal(group, signal.SIGTERM)
    left, asked = set(groups), set[int]()
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        for group in left - asked:
            if not _signal(group, 0):
                signal_group(group, signal.SIGTERM)
                asked.add(group)
        time.sleep(0.05)
        left = {group for group in left if signal_group(group, 0)}
    for group in left:
        signal_group(group, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    """Read ``+group`` and ``-group`` lines until the pipe ends, then end what is left."""
    groups: set[int] = set()
    for line in sys.stdin:
        number = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(number)
    end_groups(groups)


if __name__ == "__main__":
    main()
