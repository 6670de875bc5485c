"""The processes of the demo, and what the page may know about them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING

from koan_django.core.development import Development
from koan_django.core.supervisor import Exit, Program, Supervisor

if TYPE_CHECKING:
    from .place import Place

WORKERS = 2


def programs(place: Place, port: int) -> list[Program]:
    """Return web, worker and beat, as ``koan_dev`` starts them, with less to read."""
    laptop = Development(
        app="sampleproject",
        port=port,
        concurrency=WORKERS,
        log_level="WARNING",
        reload=False,
        quiet=True,
        manage=(sys.executable, "manage.py"),
        env=place.environment(),
    )
    return laptop.programs()


class Processes:
    """The supervisor, with its state written down for the page whenever it changes."""

    def __init__(self, place: Place, port: int) -> None:
        self._place = place
        self._names = [program.name for program in programs(place, port)]
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_changes, daemon=True)
        self.supervisor = Supervisor(programs(place, port))

    def __enter__(self) -> Processes:
        self.supervisor.start()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()
        self._ended.set()
        with contextlib.suppress(OSError):
            self._place.supervisor.unlink()

    def _write_changes(self) -> None:
        written = ""
        while not self._ended.wait(0.1):
            text = self._state()
            if text != written:
                temporary = self._place.supervisor.with_suffix(".new")
                temporary.write_text(text)
                os.replace(temporary, self._place.supervisor)
                written = text

    def _state(self) -> str:
        pids = {name: self.supervisor.pid(name) for name in self._names}
        exits = [_exit(each) for each in list(self.supervisor.exits)]
        return json.dumps({"pids": {name: pid for name, pid in pids.items() if pid}, "exits": exits})


def _exit(ended: Exit) -> dict[str, object]:
    return {
        "name": ended.name,
        "pid": ended.pid,
        "signal": ended.signal,
        "code": ended.code,
        "at": ended.at.isoformat(),
    }
