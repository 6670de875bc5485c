from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from koan_django.messaging.buses.amqp.readahead import CHUNK, ReadAhead


class Wire:
    """A socket that has its bytes in these pieces, and counts how often it is asked."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.asked: list[int] = []

    def recv(self, size: int) -> bytes:
        self.asked.append(size)
        return self._pieces.pop(0) if self._pieces else b""


def test_many_small_reads_cost_one_large_one() -> None:
    wire = Wire(b"header.payload.end")
    ahead = ReadAhead(wire.recv)
    assert not ahead.pending
    assert [ahead.read(size) for size in (7, 8, 3)] == [b"header.", b"payload.", b"end"]
    assert wire.asked == [CHUNK]
    assert not ahead.pending


def test_what_was_not_asked_for_yet_is_pending_and_the_end_is_nothing() -> None:
    ahead = ReadAhead(Wire(b"abc").recv)
    assert ahead.read(1) == b"a"
    assert ahead.pending
    assert ahead.read(100) == b"bc"
    assert ahead.read(100) == b""
    assert not ahead.pending


@given(st.lists(st.binary(min_size=1)), st.lists(st.integers(1, 50), min_size=1))
def test_the_bytes_are_the_same_however_they_come_and_are_asked_for(pieces: list[bytes], sizes: list[int]) -> None:
    ahead = ReadAhead(Wire(*pieces).recv)
    read = b""
    turn = 0
    while piece := ahead.read(sizes[turn % len(sizes)]):
        assert len(piece) <= sizes[turn % len(sizes)]
        read += piece
        turn += 1
    assert read == b"".join(pieces)
