"""The tutorial, done as a reader does it: in an empty folder, with a real worker and a real beat."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.process import plain_environment
from tests.services.waiting import wait_until

from .pages import Step, is_shown, steps

if TYPE_CHECKING:
    from tests.services.fixtures import StartProcess
    from tests.services.process import Process

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-project.md"
#: Nothing of the test run's own; the tree under test takes the place of the installed package.
ENVIRONMENT = plain_environment(PYTHONPATH=str(PAGE.parents[2]))
#: Making an environment, and what waits for a person at the keyboard.
LEFT_OUT = ("python -m venv", "pip install", "python manage.py createsuperuser", "python manage.py runserver")


@dataclass
class Reader:
    """Where the reader stands, and what runs in the other terminals."""

    folder: Path
    start: StartProcess
    terminals: dict[str, Process] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        """Do one step; a command is repeated until it shows what the page says, as a reader would."""
        if step.kind == "run":
            self._run(step)
            return
        path = self.folder / step.target
        before = path.read_text() if step.kind == "append" else ""
        path.write_text(f"{before}\n{step.text}" if before else step.text)

    def _run(self, step: Step) -> None:
        words = shlex.split(step.target)
        if step.target.startswith(LEFT_OUT):
            return
        if words[0] == "cd":
            self.folder /= words[1]
        elif words[0] == "celery":
            self._leave_running(words)
        else:
            wait_until(lambda: is_shown(step.output, self._output(words, step.text)), 60, what=step.target, every=0.2)

    def _leave_running(self, words: list[str]) -> None:
        verb = words[3]
        if verb in self.terminals:  # Celery takes seconds to see it on this transport; its successor need not wait
            self.terminals[verb].send(signal.SIGINT)
        self.terminals[verb] = self.start(verb, [sys.executable, "-m", *words], env=ENVIRONMENT, cwd=self.folder)

    def _output(self, words: list[str], typed: str) -> str:
        program = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}[words[0]]
        ended = subprocess.run(
            [*program, *words[1:]],
            input=typed,
            env=ENVIRONMENT,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0 or typed, f"{words} failed:\n{ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr


def test_the_tutorial_works_as_it_is_written(tmp_path: Path, process: StartProcess) -> None:
    reader = Reader(tmp_path, process)
    found = list(steps(PAGE))
    assert {step.kind for step in found} == {"write", "append", "run"}
    for step in found:
        reader.do(step)
    for terminal in reader.terminals.values():
        terminal.kill()
