"""Where the demo keeps its state, and what its processes must know about it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from koan_django.core.development import is_free

PORT = 8000


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one demo."""

    folder: Path

    @property
    def pictures(self) -> Path:
        """The pictures that were drawn."""
        return self.folder / "pictures"

    @property
    def supervisor(self) -> Path:
        """What the supervisor says about its processes."""
        return self.folder / "supervisor.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.json"

    def environment(self) -> dict[str, str]:
        """What every process of the demo is told."""
        return {
            "DJANGO_SETTINGS_MODULE": "sampleproject.settings",
            "GALLERY_DATA": str(self.folder),
            "GALLERY_SUPERVISOR": str(self.supervisor),
            "GALLERY_SECRET_KEY": self._secret_key(),
        }

    def _secret_key(self) -> str:
        """One key for the life of this state, so that a second start knows the sessions of the first."""
        path = self.folder / "secret-key"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
        return path.read_text()


def prepare(folder: Path, *, keep: bool) -> tuple[Place, str]:
    """Return the place, empty unless ``keep``, and a sentence that says which."""
    marker = folder / "db.sqlite3"
    found = marker.exists()
    if found and not keep:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not found:
        return Place(folder), f"A fresh demo in {folder}."
    if keep:
        return Place(folder), f"Reusing the demo in {folder}: its photographs and messages are still there."
    return Place(folder), f"The last demo in {folder} is reset. KEEP=1 would have reused it."


def free_port(wanted: int = PORT) -> tuple[int, bool]:
    """Return ``wanted`` if nobody has it, else another free port; and whether it is the wanted one."""
    if is_free("127.0.0.1", wanted):
        return wanted, True
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]), False
