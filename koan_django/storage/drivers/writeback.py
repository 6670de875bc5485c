"""Has the kernel write a file to the disk while it is still being filled.

The flush that makes a large object durable would otherwise wait for all of it at once, when the disk has had nothing to
do until then. Linux alone can be asked for this; elsewhere nothing is done, and the flush takes longer.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: As much as is worth a request of its own, in bytes.
STEP = 8 * 1024 * 1024
#: ``SYNC_FILE_RANGE_WRITE``: begin, and wait for nothing. https://man7.org/linux/man-pages/man2/sync_file_range.2.html
_BEGIN = 2


class WriteBack:
    """Counts what is written to ``descriptor`` from its start. It only hastens: the flush alone makes it durable."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun = 0
        self._written = 0

    def wrote(self, size: int) -> None:
        """So many bytes more are written; begin with what has become a step."""
        self._written += size
        if self._written - self._begun >= STEP:
            begin(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written


def begin(descriptor: int, start: int, size: int) -> bool:
    """Ask for some bytes of a file to be written out from now on; return whether the system does that."""
    ask = _system_call()
    return ask is not None and ask(descriptor, start, size, _BEGIN) == 0


@cache
def _system_call() -> Callable[[int, int, int, int], int] | None:
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found
