"""What the tests need of the machine, where it is found, and what to install when it is not."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from . import compose

Source = Literal["environment", "binaries", "compose"]


class Requirement(ABC):
    """Something to find: in the environment, among the programs of this machine, or in a container."""

    #: What a person calls it, and what fixtures, markers and the command line do.
    title: ClassVar[str]
    name: ClassVar[str]
    #: Debian's packages, and the units that these would start at the next boot.
    packages: ClassVar[tuple[str, ...]]
    #: The Python package that brings it along instead: the group ``services`` has it.
    distribution: ClassVar[str] = ""
    units: ClassVar[tuple[str, ...]] = ()
    #: The variable that names one that is there already.
    variable: ClassVar[str]
    #: Whether the compose file has it.
    contained: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def binary(cls) -> Path | None:
        """Return the program to start, if this machine has it."""

    @classmethod
    def source(cls, *, shared: bool = True) -> Source | None:
        """Return where it comes from, ``None`` when it is missing. Without ``shared`` it has to be one's own."""
        if shared and os.environ.get(cls.variable):
            return "environment"
        if cls.binary() is not None:
            return "binaries"
        if cls.contained and compose.engine_answers():
            return "compose"
        return None

    @classmethod
    def found(cls) -> str:
        """Return where it was found, in words."""
        return {
            "environment": f"named by {cls.variable}",
            "binaries": str(cls.binary()),
            "compose": "docker compose",
            None: "missing",
        }[cls.source()]


def first(*candidates: str | Path | None) -> Path | None:
    """Return the first candidate that is an executable file. A bare name is looked for on ``PATH``.

    The folder ``KOAN_TEST_PROGRAMS`` comes before all of them: it has servers of another version, by their usual names.
    """
    chosen = os.environ.get("KOAN_TEST_PROGRAMS")
    named = [Path(chosen, Path(candidate).name) for candidate in candidates if candidate] if chosen else []
    for candidate in (*named, *candidates):
        found = shutil.which(str(candidate)) if candidate else None
        if found:
            return Path(found)
    return None


def missing(kinds: Iterable[type[Requirement]]) -> list[type[Requirement]]:
    """Return those of ``kinds`` that are not to be found."""
    return [kind for kind in kinds if kind.source() is None]


def remedy(kinds: Iterable[type[Requirement]]) -> str:
    """Return what to install for ``kinds``, as text for a person."""
    kinds = list(kinds)
    packages = sorted({package for kind in kinds for package in kind.packages})
    lines = [f"The tests need what this machine does not have: {', '.join(kind.title for kind in kinds)}."]
    lines += [
        f"  {kind.title}: install {' '.join(kind.packages) or kind.distribution}, or set {kind.variable}"
        for kind in kinds
    ]
    if packages:
        lines.append(f"Debian, Ubuntu: apt-get install {' '.join(packages)}")
    if wheels := sorted(kind.distribution for kind in kinds if kind.distribution):
        lines.append(f"By pip, into the environment of the tests: pip install {' '.join(wheels)}")
    lines.append("SERVICES=apt make test does that by sudo; with SERVICES=none the tests run without servers.")
    return "\n".join(lines)
