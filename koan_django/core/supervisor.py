"""Runs a few programs side by side, for a demo or a laptop; production has systemd or Kubernetes.

Each program leads a session of its own, so Ctrl-C reaches the supervisor alone and the programs end in order. One that
ends by itself is started again, later each time while it keeps failing. A :class:`Guard` ends them all should the
supervisor itself be killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

from .console import Console
from .exceptions import KoanError
from .guard import Guard, signal_group
from .programs import Exit, Program
from .retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

__all__ = ["Exit", "Program", "Supervisor", "SupervisorError"]

#: A program that ran this long has recovered: its next restart is prompt again.
STEADY_SECONDS = 10.0
#: How long what a program left in its group may take to follow it.
REST_SECONDS = 2.0
RESTARTS = RetryPolicy(first_delay=timedelta(seconds=0.5), max_delay=timedelta(seconds=15), jitter=0)


class SupervisorError(KoanError):
    """A program cannot be started, or the supervisor is used out of order."""


class Supervisor:
    """Starts programs, shows their output line by line, restarts and stops them.

    ``on_exit`` is called with each :class:`Exit`, in a thread of the supervisor; ``exits`` keeps them all. ``grace`` is
    how long the programs have after SIGTERM before SIGKILL, in seconds. Every method may be called from any thread.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        output: TextIO | None = None,
        coloured: bool | None = None,
        on_exit: Callable[[Exit], object] | None = None,
        grace: float = 10.0,
        restarts: RetryPolicy = RESTARTS,
    ) -> None:
        names = [program.name for program in programs]
        if len(set(names)) != len(names):
            raise SupervisorError("two programs have the same name", fix=f"Rename one of {', '.join(names)}.")
        self.exits: list[Exit] = []
        self._programs = tuple(programs)
        self._console = Console(output, width=max(map(len, (*names, "supervisor"))), coloured=coloured)
        self._on_exit = on_exit
        self._grace = grace
        self._restarts = restarts
        self._lock = threading.RLock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._keepers: list[threading.Thread] = []
        self._wanted_again: set[str] = set()
        self._wakes = {name: threading.Event() for name in names}
        self._left = len(self._programs)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._guard: Guard | None = None

    def start(self) -> None:
        """Start every program and return. Raises :class:`SupervisorError` when one cannot be started at all."""
        with self._lock:
            if self._guard is not None or self._stopping.is_set():
                raise SupervisorError("the supervisor was started or stopped already", fix="Make a new one.")
            self._guard = Guard()
        for program in self._programs:
            try:
                self._start_one(program)
            except OSError as error:
                self.stop()
                fix = "Check the path, and that it may be executed."
                raise SupervisorError(f"{program.name} cannot be started", why=str(error), fix=fix) from error

    def run(self) -> None:
        """Start if need be, and block until SIGINT, SIGTERM or SIGHUP, :meth:`stop`, or the end of every program.

        The signals are handled in the main thread only. A second one does not wait for the programs any longer.
        """
        with self._signals():
            if self._guard is None:
                self.start()
            self._ended.wait()
            if self._alive():
                self.say(f"stopping, within {self._grace:g} s")
            self.stop()

    def stop(self) -> None:
        """End the programs: SIGTERM to each, SIGKILL to its group after the grace. Returns when all have ended.

        SIGTERM goes to the program alone, which knows in which order its own processes have to end; a Celery worker
        would lose its pool otherwise before the work in it is done. What it leaves behind gets SIGTERM then.

        Called from ``on_exit`` it returns at once, since the very thread that would have to end is the caller.
        """
        if threading.current_thread() in self._keepers:
            threading.Thread(target=self.stop).start()
            return
        self._stopping.set()
        self._ended.set()
        for wake in self._wakes.values():
            wake.set()
        self._each_running(lambda process: process.send_signal(signal.SIGTERM))
        deadline = time.monotonic() + self._grace
        while (alive := self._alive()) and time.monotonic() < deadline and not self._hurry.is_set():
            alive[0].join(0.05)
        self._hurry.set()
        self._each_running(lambda process: signal_group(process.pid, signal.SIGKILL))
        for keeper in self._alive():
            keeper.join(2 * REST_SECONDS)
        with self._lock:
            if self._guard is not None:
                self._guard.close()

    def restart(self, name: str) -> None:
        """Ask ``name`` to end, so that it starts again; one that waits after a failure starts at once."""
        with self._lock:
            process = self._running.get(name)
            if process is None or self._stopping.is_set():
                return
            if process.returncode is None:
                self._wanted_again.add(name)
                process.send_signal(signal.SIGTERM)
            else:
                self._wakes[name].set()

    def pid(self, name: str) -> int | None:
        """Return the process of ``name``, or ``None`` while it is not running."""
        with self._lock:
            process = self._running.get(name)
        return process.pid if process is not None and process.returncode is None else None

    def say(self, text: str) -> None:
        """Write a line of the supervisor's own between those of the programs."""
        self._console.line("supervisor", text)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_one(self, program: Program) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            process = self._spawn(program)
            keeper = threading.Thread(target=self._keep, args=(program, process), name=f"keep-{program.name}")
            keeper.daemon = True
            self._keepers.append(keeper)
            keeper.start()

    def _spawn(self, program: Program) -> subprocess.Popen[str]:
        assert self._guard is not None
        process = subprocess.Popen(  # noqa: S603  # running what the caller names is its purpose
            list(program.argv),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **program.env},
            cwd=program.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        self._guard.watch(process.pid)
        self._running[program.name] = process
        return process

    def _keep(self, program: Program, process: subprocess.Popen[str] | None) -> None:
        failures = 0
        while process is not None:
            ended = self._follow(program, process)
            failures = 1 if ended.seconds >= STEADY_SECONDS or self._was_wanted(program.name) else failures + 1
            process = self._start_again(program, ended, failures)
        with self._lock:
            self._left -= 1
            if not self._left:
                self._ended.set()

    def _follow(self, program: Program, process: subprocess.Popen[str]) -> Exit:
        began = time.monotonic()
        reader = threading.Thread(target=self._copy, args=(program.name, process), daemon=True)
        reader.start()
        process.wait()
        seconds = time.monotonic() - began
        self._end_rest(process.pid)
        reader.join(REST_SECONDS)
        ended = Exit.of(program.name, process, seconds, asked=self._stopping.is_set())
        self._record(ended)
        return ended

    def _start_again(self, program: Program, ended: Exit, failures: int) -> subprocess.Popen[str] | None:
        """Return the new process, or ``None`` when the program is not to run again."""
        if not program.restart or self._stopping.is_set():
            self.say(str(ended))
            return None
        delay = self._restarts.delay(failures + 1).total_seconds()
        self.say(f"{ended}; starts again in {delay:.1f} s")
        while not self._pause(program.name, delay):
            with self._lock:
                if self._stopping.is_set():
                    return None
                try:
                    return self._spawn(program)
                except OSError as error:
                    self.say(f"{program.name} cannot be started: {error}")
            failures += 1
            delay = self._restarts.delay(failures + 1).total_seconds()
        return None

    def _was_wanted(self, name: str) -> bool:
        """Whether the program ended because it is to start again, which is no failure."""
        with self._lock:
            wanted = name in self._wanted_again
            self._wanted_again.discard(name)
        return wanted

    def _pause(self, name: str, seconds: float) -> bool:
        """Wait before a start, shorter when one is asked for; return whether there will be none."""
        self._wakes[name].wait(seconds)
        self._wakes[name].clear()
        return self._stopping.is_set()

    def _record(self, ended: Exit) -> None:
        self.exits.append(ended)
        if self._on_exit is not None:
            try:
                self._on_exit(ended)
            except Exception as error:  # the caller's hook must not end the supervision
                self.say(f"on_exit failed: {type(error).__name__}: {error}")

    def _end_rest(self, group: int) -> None:
        """End what the program left in its group: at once after a crash, in peace when it was asked to stop."""
        assert self._guard is not None
        deadline = time.monotonic()
        if self._stopping.is_set():
            signal_group(group, signal.SIGTERM)
            deadline += REST_SECONDS
        while signal_group(group, 0) and time.monotonic() < deadline and not self._hurry.is_set():
            time.sleep(0.02)
        signal_group(group, signal.SIGKILL)
        self._guard.release(group)

    def _copy(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._console.line(name, line.rstrip("\r\n"))

    def _each_running(self, act: Callable[[subprocess.Popen[str]], object]) -> None:
        with self._lock:
            for process in self._running.values():
                if process.returncode is None:
                    act(process)

    def _alive(self) -> list[threading.Thread]:
        return [keeper for keeper in self._keepers if keeper.is_alive()]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup asks for that
        taken = (signal.SIGINT, signal.SIGTERM) if ignored else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._asked) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._ended.is_set():
            self._hurry.set()
        self._ended.set()
