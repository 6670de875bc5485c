from __future__ import annotations

import socket
import time

import pytest

from tests.services import free_port, wait_until


def test_the_first_true_answer_is_returned() -> None:
    answers = iter([None, 0, "", "ready"])
    assert wait_until(lambda: next(answers), every=0) == "ready"


def test_what_was_waited_for_and_the_last_answer_are_named() -> None:
    with pytest.raises(AssertionError, match=r"the moon: not within 0\.1 s \(last answer: 'not yet'\)"):
        wait_until(lambda: _refuse("not yet"), 0.1, "the moon", errors=(_NotYet,))


def test_an_error_that_was_not_announced_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0, errors=(OSError,))


def test_it_gives_up_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError):
        wait_until(lambda: False, 0.2)
    assert 0.2 <= time.monotonic() - began < 2


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1]


class _NotYet(Exception):
    def __repr__(self) -> str:
        return repr(self.args[0])


def _refuse(text: str) -> bool:
    raise _NotYet(text)
