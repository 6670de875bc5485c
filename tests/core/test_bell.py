"""How threads wake each other."""

from __future__ import annotations

import os
import select
import threading
import time

import pytest

from koan_django.core.bell import Bell, PipeBell
from tests.services.striking import Striker, tracing


class TooLong(Exception):
    """A time limit."""


def test_a_ring_ends_the_wait_of_another_thread() -> None:
    bell = Bell()
    began = time.monotonic()
    threading.Timer(0.05, bell.ring).start()
    assert bell.wait(10)
    assert time.monotonic() - began < 5


def test_a_ring_counts_for_whoever_waits_next_and_rings_are_not_counted() -> None:
    bell = Bell()
    assert not bell.wait(0)
    bell.ring()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0.01)


def test_a_bell_with_a_pipe_is_heard_beside_sockets_until_it_is_hushed_however_often_it_rang() -> None:
    bell = PipeBell()

    def is_heard() -> bool:
        return bool(select.select([bell], [], [], 0)[0])

    assert not is_heard()
    for _ in range(100_000):  # more than a pipe holds
        bell.ring()
    assert is_heard()
    while is_heard():
        bell.hush()
    bell.hush()
    bell.ring()
    assert is_heard()


def test_a_bell_with_a_pipe_gives_its_descriptors_back_when_nobody_holds_it() -> None:
    bell = PipeBell()
    descriptor = bell.fileno()
    del bell
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("method", ["ring", "wait"])
def test_who_is_struck_while_it_rings_or_waits_locks_out_nobody(method: str) -> None:
    def strike() -> None:
        raise TooLong

    bell, number, struck = Bell(), 0, True
    while struck:
        number += 1
        striker = Striker(number, strike)
        if method == "wait":
            bell.ring()
        try:
            with tracing(striker):
                bell.ring() if method == "ring" else bell.wait(0)
        except TooLong:
            pass
        struck = striker.has_struck
        heard: list[bool] = []
        others = threading.Thread(target=lambda heard=heard: (bell.ring(), heard.append(bell.wait(5))), daemon=True)
        others.start()
        others.join(10)
        assert heard == [True], f"point {number}"
    assert number > 1  # there were points
