"""The demo as a live process, and what can be done to it from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services.process import Process
from tests.services.waiting import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Demo:
    """One run of ``python -m sampleproject.demo`` on a folder of its own."""

    folder: Path
    env: dict[str, str]
    process: Process | None = None
    killed: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        # A port of its own: several demos may start at once, and each wants the same one.
        return {"DEMO_DIR": str(self.folder), "PYTHONPATH": str(ROOT), "PORT": str(free_port()), **self.env}

    @property
    def supervised(self) -> dict[str, Any]:
        """What the supervisor has written down."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "supervisor.json").read_text())
        except (OSError, ValueError):
            return {"pids": {}, "exits": []}
        return found

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    def ask(self) -> dict[str, Any]:
        """The report of now, by the command, while everything runs."""
        environment = {
            **os.environ,
            **self.environment(),
            "GALLERY_DATA": str(self.folder),
            "GALLERY_SECRET_KEY": "asked-from-a-test",
        }
        argv = [sys.executable, "manage.py", "gallery_report"]
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def kill_worker(self) -> None:
        """SIGKILL the worker's main process and wait until the supervisor has started another."""
        pid = self.supervised["pids"]["worker"]
        os.kill(pid, signal.SIGKILL)
        self.killed.append(f"worker {pid}")
        wait_until(lambda: self.supervised["pids"].get("worker") not in (None, pid), 30, "a new worker")

    def kill_child(self) -> None:
        """SIGKILL one child of the worker's pool."""
        worker = self.supervised["pids"]["worker"]
        wait_until(lambda: len(children(worker)) >= 2, 30, "the pool's children")
        pid = children(worker)[0]
        os.kill(pid, signal.SIGKILL)
        self.killed.append(f"child {pid}")


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
