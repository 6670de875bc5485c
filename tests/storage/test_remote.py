"""Bytes fetched as they are read are those of the object, however one jumps about and whatever connections break."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.storage import StorageUnavailableError
from koan_django.storage.drivers.s3 import multipart
from koan_django.storage.drivers.s3.multipart import gather, ranges
from koan_django.storage.drivers.s3.remote import RemoteBytes


class Connections:
    """Answers with the rest of ``data``, in short reads. Those whose number is in ``broken`` fail after one byte."""

    def __init__(self, data: bytes, broken: set[int]) -> None:
        self.data, self.broken, self.made = data, broken, 0

    def __call__(self, at: int) -> Connection:
        self.made += 1
        return Connection(self.data[at:], breaks=self.made in self.broken)


class Connection:
    def __init__(self, data: bytes, *, breaks: bool) -> None:
        self._data, self._breaks, self._reads = io.BytesIO(data), breaks, 0

    def read(self, size: int, /) -> bytes:
        self._reads += 1
        if self._breaks and self._reads > 1:
            raise StorageUnavailableError("it broke")
        return self._data.read(1 if self._breaks else min(size, 3))

    def close(self) -> None:
        self._data.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, 60), st.just(io.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(-40, 0), st.just(io.SEEK_END)),
    ),
    max_size=12,
)


@given(data=st.binary(max_size=50), steps=STEPS, broken=st.sets(st.integers(1, 20)), buffer=st.integers(1, 16))
def test_it_reads_as_a_file_in_memory_does(
    data: bytes, steps: list[tuple[str, int, int]], broken: set[int], buffer: int
) -> None:
    fetch = Connections(data, broken)
    model = io.BytesIO(data)
    with io.BufferedReader(RemoteBytes(fetch(0), len(data), fetch), buffer) as stream:
        for verb, number, whence in steps:
            if verb == "read":
                assert stream.read(number) == model.read(number)
            else:
                number = max(number, -len(data)) if whence == io.SEEK_END else number
                assert stream.seek(number, whence) == model.seek(number, whence)


def test_two_broken_connections_in_a_row_without_a_byte_are_an_error() -> None:
    class Dead(Connection):
        def read(self, size: int, /) -> bytes:
            raise StorageUnavailableError("it broke")

    stream = RemoteBytes(Dead(b"", breaks=True), 10, lambda at: Dead(b"", breaks=True))
    with pytest.raises(StorageUnavailableError):
        stream.read(1)


@given(total=st.integers(1, 10**13), size=st.integers(1, 10**9))
def test_the_ranges_of_a_copy_join_to_the_whole_and_a_store_takes_them(total: int, size: int) -> None:
    found = list(ranges(total, size))
    assert (found[0][0], found[-1][1], len(found) <= 10_000) == (0, total - 1, True)
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(found))
    assert all(end - start + 1 >= multipart.LEAST for start, end in found[:-1])


@given(count=st.integers(0, 20), workers=st.integers(1, 5))
def test_parts_come_back_in_order_and_no_more_are_taken_than_are_on_their_way(count: int, workers: int) -> None:
    taken: list[int] = []
    done: list[int] = []

    def jobs() -> object:
        for number in range(count):
            taken.append(number)
            assert len(taken) - len(done) <= workers + 1
            yield lambda part: done.append(part) or {"PartNumber": part}

    assert [part["PartNumber"] for part in gather(jobs(), workers)] == list(range(1, count + 1))  # type: ignore[arg-type]
