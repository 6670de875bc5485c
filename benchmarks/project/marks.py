"""When a worker came to a message: from one marked message to the next it is measured.

The worker says so by a datagram: a file would have it wait for the disk, which others keep busy.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PORT = int(os.environ.get("BENCH_MARKS", "0"))
_MARKED = frozenset(map(int, os.environ.get("BENCH_MARKED", "").split()))
_sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def mark(number: int) -> None:
    """Tell the time if the message is one of those."""
    if number in _MARKED:
        tell(number)


def tell(number: int) -> None:
    """Tell the time."""
    _sender.sendto(f"{number} {time.time()}".encode(), ("127.0.0.1", _PORT))


class Listener:
    """Hears the marks of a worker; ``environment`` is for the worker."""

    def __init__(self, heard: socket.socket, numbers: tuple[int, ...]) -> None:
        self._heard = heard
        self._times: dict[int, float] = {}
        port: int = heard.getsockname()[1]
        self.environment = {"BENCH_MARKS": str(port), "BENCH_MARKED": " ".join(map(str, numbers))}

    def time_of(self, number: int, timeout: float) -> float:
        """Wait until the worker comes to ``number``; raises ``TimeoutError``."""
        self._heard.settimeout(timeout)
        while number not in self._times:
            told, when = self._heard.recv(100).split()
            self._times[int(told)] = float(when)
        return self._times[number]


@contextmanager
def listening(*numbers: int) -> Iterator[Listener]:
    """Hear when a worker comes to each of ``numbers``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        heard.bind(("127.0.0.1", 0))
        yield Listener(heard, numbers)
