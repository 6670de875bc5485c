"""The processes of a soak: started by role, ended by faults, replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.process import Process

ROOT = Path(__file__).parents[2]
#: Celery's own end when a child is killed before its loop runs, and when its broker is cut off while it asks for its
#: neighbours; whatever starts workers starts it again.
CELERY_GAVE_UP = ("Could not start worker processes", "celery/worker/consumer/mingle.py")
#: A warm stop, a kill, and a stop before the process had learnt to stop warmly.
_WELL_ENDED = (0, -signal.SIGKILL, -signal.SIGTERM)


@dataclass(frozen=True)
class Role:
    """What ``count`` processes do: ``words`` behind ``python -m``, where ``{number}`` is the process's own."""

    name: str
    words: str
    count: int = 1
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)


def worker(count: int, *, children: int = 2, environment: Mapping[str, str] = os.environ) -> Role:
    """Return the role of a Celery worker."""
    words = f"celery -A tests.soaks.project worker -c {children} -l info -n soak{{number}}@soak"
    return Role("worker", words, count, environment)


class Crew:
    """The processes of a run. Whoever was ended is replaced by :meth:`complete`."""

    def __init__(self, folder: Path, *roles: Role) -> None:
        self._folder = folder
        self._roles = {role.name: role for role in roles}
        self._members: dict[str, list[Process]] = {role.name: [] for role in roles}
        self._leaving: list[Process] = []
        self._count = 0

    def __getitem__(self, role: str) -> list[Process]:
        return self._members[role]

    def complete(self, *roles: str) -> None:
        """Start who is missing in ``roles``, or in all of them."""
        self._leaving = [process for process in self._leaving if not gone(process)]
        for name in roles or self._roles:
            self._members[name] = [process for process in self._members[name] if not gone(process)]
            while len(self._members[name]) < self._roles[name].count:
                self.add(name)

    def add(self, role: str) -> None:
        """Start another one."""
        self._count += 1
        words = self._roles[role].words.format(number=self._count).split()
        log = self._folder / f"{role}-{self._count}.log"
        command = [sys.executable, "-m", *words]
        self._members[role].append(Process(role, command, log, env=self._roles[role].environment, cwd=ROOT))

    def end(self) -> None:
        """End everybody."""
        for process in (*self._leaving, *(each for members in self._members.values() for each in members)):
            process.kill()

    # what may happen to one of a role

    def kill(self, role: str, chance: random.Random) -> None:
        """Kill one, its main process alone: its children must see to it. A while later it is replaced."""
        os.kill(chance.choice(self[role]).pid, signal.SIGKILL)
        time.sleep(chance.uniform(0, 1))
        self.complete()

    def relieve(self, role: str, chance: random.Random) -> None:
        """Ask one to end, and have another take its place at once: the first ends what it is at beside it."""
        members = self._members[role]
        leaving = members.pop(chance.randrange(len(members)))
        leaving.send(signal.SIGTERM)
        self._leaving.append(leaving)
        self.complete()

    def kill_child(self, role: str, chance: random.Random) -> None:
        """Kill a child of one."""
        children = children_of(chance.choice(self[role]).pid)
        if children:
            os.kill(chance.choice(children), signal.SIGKILL)

    def freeze(self, role: str, seconds: float, chance: random.Random) -> None:
        """Let one with its children stand still for so long."""
        frozen = chance.choice(self[role])
        os.killpg(frozen.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.killpg(frozen.pid, signal.SIGCONT)


def gone(process: Process) -> bool:
    """Whether the process was ended; one that ended by itself is a finding."""
    if process.returncode not in (None, *_WELL_ENDED) and not any(said in process.output for said in CELERY_GAVE_UP):
        raise AssertionError(f"{process.name} ended by itself with {process.returncode}:\n{process.tail(100)}")
    return not process.running


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return sorted(int(child) for child, parent in map(str.split, listing.splitlines()) if int(parent) == pid)
