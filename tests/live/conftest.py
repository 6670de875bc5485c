"""A project whose processes are alive, on the database of the test."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-m", "celery", "-A", "tests.live.project"]
#: What would lead the processes to a server of this machine.
LEADS = ("KOAN_RABBITMQ_URL", "Koan_RABBITMQ_URL", "RABBITMQ_URL", "KOAN_ENVIRONMENT")


class Site:
    """The project's folder, its processes, and what they have noted."""

    def __init__(self, folder: Path, process: Any) -> None:
        self.folder = folder
        self._process = process
        for name in ("queue", "control"):
            (folder / name).mkdir()
        self.env = {
            **{name: value for name, value in os.environ.items() if name not in LEADS},
            "DJANGO_SETTINGS_MODULE": "tests.live.project.settings",
            "KOAN_LIVE_DIR": str(folder),
            "KOAN_LIVE_DATABASE": json.dumps({"NAME": connection.settings_dict["NAME"]}),
            "KOAN_IN_CONTAINER": "0",
        }

    def worker(self, *options: str, **env: str) -> Any:
        made = self._process("worker", [*CELERY, "worker", "-l", "info", *options], env=self.env | env, cwd=ROOT)
        made.expect(" ready.", timeout=60)
        return made

    def beat(self) -> Any:
        made = self._process("beat", [*CELERY, "beat", "-l", "info"], env=self.env, cwd=ROOT)
        made.expect("beat: Starting", timeout=60)
        return made

    def manage(self, *arguments: str, **env: str) -> Any:
        """Run a command to its end and return the process."""
        command = [sys.executable, "manage.py", *arguments]
        made = self._process("manage", command, env=self.env | env, cwd=ROOT)
        made.wait(60)
        return made

    def deeds(self, word: str = "") -> list[list[str]]:
        file = self.folder / "deeds.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.split() for line in lines if line.startswith(word)]


@pytest.fixture
def site(process: Any, tmp_path: Path) -> Site:
    return Site(tmp_path, process)
