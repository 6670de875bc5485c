"""How one thread wakes another, though an exception may strike it meanwhile: a time limit, or the user's interrupt.

``threading.Event`` has a lock of Python's: a thread that is struck while it is inside keeps it for ever, and everybody
else who sets, clears or waits for the event stands still.
"""

from __future__ import annotations

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
