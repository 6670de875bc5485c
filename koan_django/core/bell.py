"""How one thread wakes another, though an exception may strike it meanwhile: a time limit, or the user's interrupt.

``threading.Event`` has a lock of Python's: a thread that is struck while it is inside keeps it for ever, and everybody
else who sets, clears or waits for the event stands still.
"""

from __future__ import annotations

import contextlib
import os
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits for it, now or when it waits next."""

    def __init__(self) -> None:
        # Written in C: nothing strikes it halfway, and a signal handler may ring while its thread does.
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake whoever waits; from any thread, and in a signal handler."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds``; return whether somebody has rung since the last time."""
        try:
            self._rings.get(timeout=seconds)
        except Empty:
            return False
        return True


class PipeBell:
    """A bell for a thread that waits for sockets at once: its :meth:`fileno` can be read once somebody has rung.

    Its pipe is open for as long as anybody holds the bell. Who rings when the thread is gone would write into a file of
    the user's otherwise, to which the system has given the number meanwhile.
    """

    _reader = _writer = -1

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def fileno(self) -> int:
        """What to wait for."""
        return self._reader

    def ring(self) -> None:
        """Wake whoever waits; from any thread, and in a signal handler."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._writer, b"x")

    def hush(self) -> None:
        """Forget what has been rung so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def __del__(self) -> None:
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)
