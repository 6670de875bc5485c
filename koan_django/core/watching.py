"""Notices that the code of the project has changed. Django does so for its own server, Celery for nothing."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PERIOD_SECONDS = 0.5
#: Folders that hold many files and none of the project's modules, beside hidden ones such as ``.venv``.
_SKIPPED = frozenset({"__pycache__", "node_modules"})
State = dict[Path, int]


def project_folders(*modules: str) -> list[Path]:
    """Return the folders of the installed apps, and of ``modules``, that are the project's own: not site-packages."""
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    folders = {Path(config.path).resolve() for config in apps.get_app_configs()}
    folders |= {Path(file).resolve().parent for name in modules if (file := sys.modules[name].__file__)}
    own = [folder for folder in sorted(folders) if not any(map(folder.is_relative_to, installed))]
    return [folder for folder in own if not any(parent in own for parent in folder.parents)]


class Watcher(threading.Thread):
    """Calls ``on_change`` with the Python files below ``folders`` that were written, added or removed."""

    def __init__(
        self, folders: Iterable[Path], on_change: Callable[[list[Path]], object], period: float = PERIOD_SECONDS
    ) -> None:
        super().__init__(name="koan-watcher", daemon=True)
        self._folders = tuple(folders)
        self._on_change = on_change
        self._period = period
        self._stopping = threading.Event()
        self._state = self._look()

    def run(self) -> None:
        while not self._stopping.wait(self._period):
            before, self._state = self._state, self._look()
            changed = sorted(path for path, _ in before.items() ^ self._state.items())
            if changed:
                self._on_change(list(dict.fromkeys(changed)))

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()

    def _look(self) -> State:
        found: State = {}
        for path in self._files():
            try:
                found[path] = path.stat().st_mtime_ns
            except OSError:  # gone between the listing and the look
                continue
        return found

    def _files(self) -> Iterator[Path]:
        for folder in self._folders:
            for place, below, names in os.walk(folder):
                below[:] = [name for name in below if not name.startswith(".") and name not in _SKIPPED]
                yield from (Path(place, name) for name in names if name.endswith(".py"))
