"""Servers in containers, for machines that have a Docker engine and no packages."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

FILE = Path(__file__).with_name("compose.yaml")


@functools.cache
def engine_answers() -> bool:
    """Whether a Docker engine is running: a client alone is of no use."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "compose", "ls"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class Container:
    """One service of the compose file, in a project of its own."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._project = f"koan-{service}-{os.getpid()}"

    def start(self) -> None:
        """Start it and wait until its health check passes."""
        self._compose("up", "--detach", "--wait", "--wait-timeout", "180", self.service)

    def port(self, inside: int) -> int:
        """Return the port of the loopback interface that leads to ``inside``."""
        return int(self._compose("port", self.service, str(inside)).rsplit(":", 1)[1])

    def running(self) -> bool:
        """Whether the container still runs."""
        return bool(self._compose("ps", "--status", "running", "--quiet", self.service).strip())

    def logs(self) -> str:
        """Return the end of what it wrote."""
        return self._compose("logs", "--no-color", "--tail", "60", self.service)

    def stop(self) -> None:
        """Remove it with its volumes."""
        self._compose("down", "--volumes", "--timeout", "5")

    def _compose(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", "compose", "--file", str(FILE), "--project-name", self._project, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker compose {' '.join(words)} failed:\n{done.stderr}")
        return done.stdout
