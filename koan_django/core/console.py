"""Lines of several programs on one terminal, each with the name of the program that said it."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Console:
    """Writes whole lines, prefixed and flushed; the prefix is coloured when ``stream`` is a terminal.

    ``coloured`` says otherwise; ``NO_COLOR`` in the environment turns colours off. A stream that nobody reads any more
    loses the lines, and the programs go on.
    """

    def __init__(self, stream: TextIO | None = None, *, width: int = 0, coloured: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._width = width
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        by_itself = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._coloured = by_itself if coloured is None else coloured

    def line(self, name: str, text: str) -> None:
        """Write one line of ``name``."""
        with self._lock:
            try:
                self._stream.write(f"{self._prefix(name)} {text}\n")
                self._stream.flush()
            except (OSError, ValueError):  # a closed pipe or stream
                return

    def _prefix(self, name: str) -> str:
        label = f"{name:<{self._width}} |"
        if not self._coloured:
            return label
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\x1b[{colour}m{label}\x1b[0m"
