"""Storage: 256 MiB stored with their hash, and one MiB out of the middle of them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import IO

from benchmarks.harness import Case, Side, seconds_each

SERVERS = ("s3",)
MIB = 1024 * 1024
SIZE = 256 * MIB
#: Where the range begins: anywhere but at the start.
MIDDLE = 100 * MIB


def cases() -> list[Case]:
    """Return the cases."""
    return [
        Case(
            name="save-with-hash/django-storages",
            peer_name=f"FileSystemStorage of Django {version('django')}",
            unit="MB/s",
            goal=1.2,
            sides=_saving,
            rounds=9,
            note="256 MiB from a file in the page cache to a local folder, flushed to the disk with the folder on both"
            " sides, and the SHA-256 of what was stored. django-storages has no local backend: the peer is the one that"
            " Django has for that. It hashes nothing, so it saves, is flushed, and its file is read back and hashed.",
        ),
        Case(
            name="range-1mib-of-256mib/django-storages",
            peer_name=f"S3Storage of django-storages {version('django-storages')}",
            unit="ms",
            goal=15,
            sides=_ranging,
            rounds=5,
            # Where it is done tells nothing: the store and the peer's download are what takes time.
            with_cpu=False,
            note="One MiB from the middle of an object of 256 MiB on SeaweedFS, a store that speaks S3, by the loopback"
            " interface. The peer opens, seeks and reads, which fetches the whole object first. On a local folder both"
            " read the range alone and there is nothing to gain.",
        ),
    ]


@contextmanager
def _saving() -> Iterator[tuple[Side, Side]]:
    from django.core.files.base import File
    from django.core.files.storage import FileSystemStorage

    from koan_django.storage import profiles
    from koan_django.storage.operations import delete, put

    storage = FileSystemStorage(location=_folder() / "peer")

    def ours(stream: IO[bytes]) -> str:
        return put(profiles["default"], "ours.bin", stream).sha256

    def peer(stream: IO[bytes]) -> str:
        path = Path(storage.path(storage.save("peer.bin", File(stream))))
        _flush(path)
        _flush(path.parent)
        with path.open("rb") as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest()

    expected = hashlib.file_digest(_source().open("rb"), "sha256").hexdigest()
    yield (
        _rate(ours, partial(delete, profiles["default"], "ours.bin"), expected),
        _rate(peer, partial(storage.delete, "peer.bin"), expected),
    )


@contextmanager
def _ranging() -> Iterator[tuple[Side, Side]]:
    from django.core.files.storage import storages

    from koan_django.storage import profiles
    from koan_django.storage.operations import delete, open_range, put

    profile, storage = profiles["s3"], storages["s3"]
    with _source().open("rb") as stream:
        put(profile, "object.bin", stream)
        stream.seek(MIDDLE)
        expected = stream.read(MIB)

    def ours() -> None:
        with open_range(profile, "object.bin", MIDDLE, MIDDLE + MIB - 1) as found:
            assert found.read() == expected

    def peer() -> None:
        with storage.open("object.bin") as found:
            found.seek(MIDDLE)
            assert found.read(MIB) == expected

    yield lambda: seconds_each(ours, 5) * 1000, lambda: seconds_each(peer, 1) * 1000
    delete(profile, "object.bin")


def _rate(save: Callable[[IO[bytes]], str], remove: Callable[[], object], expected: str) -> Side:
    def side() -> float:
        remove()  # untimed; each side finds the memory that the object before it took
        with _source().open("rb") as stream:
            began = time.perf_counter()
            found = save(stream)
            took = time.perf_counter() - began
        assert found == expected
        return SIZE / took / 1_000_000

    return side


@cache
def _source() -> Path:
    path = _folder() / "source.bin"
    with path.open("wb") as target:
        for _ in range(SIZE // MIB):
            target.write(os.urandom(MIB))
    return path


def _folder() -> Path:
    return Path(os.environ["BENCH_DIR"])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
