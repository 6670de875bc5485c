"""One gallery for the whole walk: the demo itself, with web, worker, beat and one photograph."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.acceptance import pictures
from tests.acceptance.demo import ROOT, Demo
from tests.services import Process, free_port
from tests.services.plugin import evidence

_SAID = re.compile(r"The page: (?P<url>\S+)\s+The admin: \S+ user (?P<user>\S+), password (?P<password>\S+)")


@dataclass(frozen=True)
class Gallery:
    """A live gallery, and who may enter its admin."""

    url: str
    user: str
    password: str
    folder: Path
    process: Process

    def log_in(self, page: Page) -> None:
        """Fill the login form that ``page`` shows, and wait for what it leads to."""
        page.get_by_label("Username").fill(self.user)
        page.get_by_label("Password").fill(self.password)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()

    def run(self, code: str) -> str:
        """Run Python beside the gallery, on its database and folders; return what it printed."""
        argv = [sys.executable, "manage.py", "shell", "--no-imports", "-c", code]
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "sampleproject.settings",
            "GALLERY_DATA": str(self.folder),
        }
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("walk")
    pictures.photographs(folder / "photos", 1, width=1200, height=900)
    demo = Demo(folder / "demo", {"PHOTOS": str(folder / "photos"), "GALLERY_RENDER_LEASE": "3s"})
    argv = [sys.executable, "-m", "sampleproject.demo"]
    environment = {**os.environ, **demo.environment(), "PORT": str(free_port())}
    process = Process("demo", argv, folder / "demo.log", env=environment, cwd=ROOT)
    try:
        said = _SAID.search(process.expect("Ctrl-C ends the demo", 90))
        assert said is not None, process.tail()
        yield Gallery(said["url"], said["user"], said["password"], demo.folder, process)
    finally:
        process.stop()


@pytest.fixture
def gallery(started: Gallery, request: pytest.FixtureRequest) -> Gallery:
    """The gallery of this walk; its output is shown if the test fails."""
    evidence(request.node, lambda: ("output of the demo", started.process.tail()))
    return started
