"""Environments that hold the wheel with one extra, made side by side from pip's cache."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


class BrokenError(Exception):
    """A step failed; the text is what it wrote."""


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel and, unless it is empty, ``extra``.

    One with an extra stands on the one without (``base``): a line of a ``.pth`` file lets it see what is there, and pip
    adds what the extra brings. Installing Django once for all is most of the time saved.
    """

    folder: Path
    extra: str = ""
    base: Environment | None = None

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The folder ``site-packages``."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def make(self, wheel: Path) -> None:
        """Create it. pip stays outside, so that nothing is in it but what the wheel asks for."""
        venv.create(self.folder, with_pip=False, symlinks=True)
        if self.base is None:
            self._pip("install", "-qq", "--no-compile", wheel)
        else:
            (self.packages / "base.pth").write_text(f"{self.base.packages}\n")
            self._pip("install", "-qq", "--no-compile", f"koan-django[{self.extra}]")

    def check(self) -> None:
        """Fail when what is installed does not fit together."""
        self._pip("check")

    def _pip(self, *words: str | Path) -> None:
        run([*PIP, "--python", self.python, *words])


def build(root: Path, folder: Path) -> Path:
    """Build the wheel of the project at ``root`` into ``folder``, and return it."""
    run([*PIP, "wheel", "-qq", "--no-deps", "--wheel-dir", folder, root])
    (wheel,) = folder.glob("koan_django-*.whl")
    return wheel


def run(argv: list[str | Path], **options: object) -> str:
    """Run a program and return its output; raise :class:`BrokenError` with all of it when it fails."""
    command = [str(word) for word in argv]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise BrokenError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}")
    output: str = done.stdout
    return output
