"""What a supervisor runs, and how that ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``env`` is added to the environment of the supervisor.

    Without ``restart`` the program runs once, and its end is only recorded.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | os.PathLike[str] | None = None
    restart: bool = True


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended. One of ``code`` and ``signal`` (a name such as ``SIGKILL``) is set.

    ``asked`` says that the supervisor was stopping; ``seconds`` is how long the program ran.
    """

    name: str
    pid: int
    code: int | None
    signal: str | None
    at: datetime
    seconds: float
    asked: bool

    @classmethod
    def of(cls, name: str, process: subprocess.Popen[str], seconds: float, *, asked: bool) -> Exit:
        """Return how ``process`` ended, just now."""
        code = process.returncode
        return cls(
            name=name,
            pid=process.pid,
            code=code if code >= 0 else None,
            signal=_signal_name(-code) if code < 0 else None,
            at=datetime.now(UTC),
            seconds=seconds,
            asked=asked,
        )

    def __str__(self) -> str:
        how = f"was ended by {self.signal}" if self.signal else f"exited with code {self.code}"
        return f"{self.name} (pid {self.pid}) {how} after {self.seconds:.1f} s"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
