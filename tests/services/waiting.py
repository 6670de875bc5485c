"""Waiting for a condition instead of sleeping for luck."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html, ip_local_port_range: from 32768 by default.
_PORTS = range(15_000, 32_000)


def wait_until(
    condition: Callable[[], T],
    timeout: float = 30,
    what: str = "the condition",
    *,
    every: float = 0.05,
    errors: tuple[type[BaseException], ...] = (),
) -> T:
    """Return the first true value of ``condition``; raise ``AssertionError`` naming ``what`` after ``timeout`` seconds.

    ``errors`` are exceptions that mean "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except errors as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s (last answer: {last!r})")
        time.sleep(every)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now.

    It is below those that the system gives to outgoing connections: one of them could take it before a server does.
    """
    for port in random.sample(_PORTS, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
