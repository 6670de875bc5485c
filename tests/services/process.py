"""One live process with its output kept, ended with everything it started."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from koan_django.core.guard import Guard, signal_group

from .waiting import wait_until


class Process:
    """A process that leads a session of its own; its output, both streams, goes to ``log``.

    ``env`` replaces the environment when given. ``user`` is the name to run under, for which this must be root. Should
    this very process be killed, a guard ends the other.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in argv],
                env=dict(env) if env is not None else None,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(identity(user) if user else {}),
            )
        self._guard: Guard | None = Guard()
        self._guard.watch(self.pid)

    def __repr__(self) -> str:
        return f"<{self.name}: pid {self.pid}, {'running' if self.running else f'ended {self.returncode}'}>"

    @property
    def pid(self) -> int:
        """The process, which is also the number of its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended (negative: the signal), or ``None`` while it runs."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    @property
    def output(self) -> str:
        """All it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 60) -> str:
        """Return the end of the output."""
        return "\n".join(self.output.splitlines()[-lines:])

    def expect(self, text: str, timeout: float = 20) -> str:
        """Wait until the output holds ``text`` and return the output; fail as soon as the process ends without it."""
        wait_until(lambda: text in self.output or not self.running, timeout, f"{self.name} to say {text!r}")
        if text not in self.output:
            raise AssertionError(f"{self.name} ended with {self.returncode} and never said {text!r}:\n{self.tail()}")
        return self.output

    def wait(self, timeout: float = 60) -> int:
        """Wait for the process to end by itself and return its code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None

    def send(self, number: int) -> None:
        """Send a signal to the process alone, as ``kill`` would; ended processes get none."""
        if self.running:
            self._popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15) -> int:
        """Ask the process to end, kill what is left of its group after ``seconds``; return its code."""
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self.kill()

    def kill(self) -> int:
        """End the process and its whole group at once."""
        if self._guard is not None:  # once only: the number of a group that has ended may come to mean another
            signal_group(self.pid, signal.SIGKILL)
            self._popen.wait()
            self._guard.release(self.pid)
            self._guard.close()
            self._guard = None
        return self._popen.wait()


def identity(user: str) -> dict[str, object]:
    """Return the arguments that make ``Popen`` run a child as ``user``."""
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def plain_environment(**extra: str) -> dict[str, str]:
    """Return an environment that inherits nothing but a usual ``PATH``."""
    path = os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return {"PATH": path, "LANG": "C.UTF-8", **extra}
