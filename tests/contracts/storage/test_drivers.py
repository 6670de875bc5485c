"""What every driver promises, asked of each."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koan_django.storage import (
    CapabilityError,
    InvalidKeyError,
    ObjectExistsError,
    ObjectNotFoundError,
    RangeError,
)
from koan_django.storage.drivers.base import Capability, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.storage.drivers.base import Driver

BIG = bytes(range(256)) * 12_345  # several blocks, and no round number of them


class Once:
    """A stream that can only be read forward, and counts what it gave."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.given += len(chunk)
        return chunk


class Broken:
    """A stream that fails after its first block."""

    def __init__(self) -> None:
        self.blocks = [b"x" * 100_000]

    def read(self, size: int = -1) -> bytes:
        if not self.blocks:
            raise ConnectionResetError("the client went away")
        return self.blocks.pop()


def put(driver: Driver, key: str, data: bytes, **options: Any) -> Any:
    return driver.put(key, io.BytesIO(data), **options)


def in_order(driver: Driver, keys: Iterable[str]) -> list[str]:
    """Return keys as the store lists them, sorted where it promises no order."""
    found = list(keys)
    return found if Capability.ORDERED_LIST in driver.capabilities else sorted(found)


def read(driver: Driver, key: str) -> bytes:
    with driver.open(key) as stream:
        return stream.read()


@pytest.mark.parametrize("data", [b"", b"a", BIG], ids=["empty", "one", "big"])
def test_what_is_put_is_read_back_with_its_size_and_hash(driver: Driver, data: bytes) -> None:
    found = put(driver, "a/b/c.bin", data)
    assert (found.key, found.size, found.sha256) == ("a/b/c.bin", len(data), hashlib.sha256(data).hexdigest())
    assert read(driver, "a/b/c.bin") == data
    assert driver.checksum("a/b/c.bin") == found.sha256


def test_the_stream_is_read_once_and_need_not_seek(driver: Driver) -> None:
    stream = Once(BIG)
    driver.put("k", stream)
    assert stream.given == len(BIG)
    assert read(driver, "k") == BIG


def test_text_is_stored_as_utf_8(driver: Driver) -> None:
    found = driver.put("k", io.StringIO("Größe"))
    assert found.size == 7
    assert read(driver, "k").decode() == "Größe"


def test_a_key_in_use_is_refused_and_keeps_its_object(driver: Driver) -> None:
    put(driver, "k", b"old")
    with pytest.raises(ObjectExistsError) as caught:
        put(driver, "k", b"new")
    assert isinstance(caught.value, FileExistsError)
    assert read(driver, "k") == b"old"


def test_overwrite_replaces_the_object(driver: Driver) -> None:
    put(driver, "k", b"a long old object")
    put(driver, "k", b"new", overwrite=True)
    assert read(driver, "k") == b"new"
    assert driver.stat("k").size == 3


def test_one_of_many_creators_wins(driver: Driver) -> None:
    results: list[bool] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        try:
            put(driver, "k", b"%d" % number * 50_000)
        except ObjectExistsError:
            results.append(False)
        else:
            results.append(True)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(set(read(driver, "k"))) == 1
    assert [found.key for found in walk(driver)] == ["k"]


def test_readers_see_the_old_object_or_the_new_one(driver: Driver) -> None:
    first, second = b"1" * 700_000, b"2" * 900_000
    put(driver, "k", first)
    done = threading.Event()
    torn: list[int] = []

    def watch() -> None:
        while not done.is_set():
            if read(driver, "k") not in (first, second):
                torn.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(30):
        put(driver, "k", second if number % 2 else first, overwrite=True)
    done.set()
    watcher.join()
    assert not torn


def test_a_stream_that_breaks_leaves_nothing_and_its_own_error(driver: Driver) -> None:
    with pytest.raises(ConnectionResetError, match="went away"):
        driver.put("k", Broken())
    assert not driver.exists("k")
    assert list(walk(driver)) == []


def test_a_stream_that_breaks_leaves_the_old_object(driver: Driver) -> None:
    put(driver, "k", b"old")
    with pytest.raises(ConnectionResetError):
        driver.put("k", Broken(), overwrite=True)
    assert read(driver, "k") == b"old"


@pytest.mark.parametrize("verb", ["open", "stat", "checksum", "open_range", "copy_within"])
def test_what_is_not_there_is_not_found(driver: Driver, verb: str) -> None:
    arguments = {"open_range": (0,), "copy_within": ("other",)}.get(verb, ())
    with pytest.raises(ObjectNotFoundError) as caught:
        getattr(driver, verb)("no/such", *arguments)
    assert isinstance(caught.value, FileNotFoundError)
    assert not caught.value.transient


def test_a_folder_is_no_object(driver: Driver) -> None:
    put(driver, "a/b", b"x")
    assert not driver.exists("a")
    with pytest.raises(ObjectNotFoundError):
        driver.open("a")
    assert not driver.delete("a")
    assert read(driver, "a/b") == b"x"
    assert not driver.exists("a/b/c")


def test_delete_says_whether_there_was_one(driver: Driver) -> None:
    put(driver, "k", b"x")
    assert driver.delete("k")
    assert not driver.delete("k")
    assert not driver.exists("k")
    put(driver, "k", b"again")
    assert read(driver, "k") == b"again"


def test_stat_knows_size_and_time(driver: Driver) -> None:
    put(driver, "k", b"12345")
    found = driver.stat("k")
    assert (found.key, found.size) == ("k", 5)
    assert found.modified_at is not None
    assert abs(found.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, b"0"),
        (0, 9, b"0123456789"),
        (3, 5, b"345"),
        (9, 9, b"9"),
        (4, None, b"456789"),
        (8, 1000, b"89"),
        (0, 10, b"0123456789"),
    ],
)
def test_a_range_includes_both_ends_and_is_cut_at_the_object(
    driver: Driver, start: int, end: int | None, expected: bytes
) -> None:
    put(driver, "k", b"0123456789")
    with driver.open_range("k", start, end) as found:
        assert (found.start, found.end, found.total) == (start, start + len(expected) - 1, 10)
        assert len(found) == len(expected)
        assert found.read() == expected
        assert found.read() == b""


@pytest.mark.parametrize(("data", "start"), [(b"0123456789", 10), (b"0123456789", 99), (b"", 0)])
def test_a_range_behind_the_end_is_refused_with_the_size(driver: Driver, data: bytes, start: int) -> None:
    put(driver, "k", data)
    with pytest.raises(RangeError) as caught:
        driver.open_range("k", start)
    assert caught.value.size == len(data)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (5, 4), (-3, None)])
def test_what_is_no_range_is_a_value_error(driver: Driver, start: int, end: int | None) -> None:
    put(driver, "k", b"0123456789")
    with pytest.raises(ValueError, match="no range"):
        driver.open_range("k", start, end)


def test_a_range_is_read_piece_by_piece_beside_others(driver: Driver) -> None:
    put(driver, "k", BIG)
    with driver.open_range("k", 100, 2_000_000) as one, driver.open_range("k", 7, 9) as other:
        head = one.read(10)
        assert other.read() == BIG[7:10]
        assert head + one.read() == BIG[100:2_000_001]


def test_an_open_stream_survives_delete_and_replace(driver: Driver) -> None:
    put(driver, "k", BIG)
    with driver.open("k") as stream:
        head = stream.read(10)
        put(driver, "k", b"new", overwrite=True)
        driver.delete("k")
        assert head + stream.read() == BIG


def test_copy_within_the_store(driver: Driver) -> None:
    if Capability.SERVER_COPY not in driver.capabilities:
        with pytest.raises(CapabilityError):
            driver.copy_within("a", "b")
        return
    put(driver, "a", BIG)
    assert driver.copy_within("a", "deep/er/b").size == len(BIG)
    assert driver.checksum("deep/er/b") == driver.checksum("a")
    with pytest.raises(ObjectExistsError):
        driver.copy_within("a", "deep/er/b")
    put(driver, "c", b"other")
    driver.copy_within("c", "deep/er/b", overwrite=True)
    assert read(driver, "deep/er/b") == b"other"
    driver.delete("a")
    assert read(driver, "deep/er/b") == b"other"


KEYS = ["a", "a-b", "a/b", "a/b/c", "a/z", "a0", "b/1", "b/10", "b/2", "ü/ß", "日本/写真 1.jpg"]


@pytest.fixture
def filled(driver: Driver) -> Driver:
    for key in KEYS:
        if key not in ("a", "a/b"):  # a file system cannot have an object and a folder of one name
            put(driver, key, key.encode())
    return driver


LISTED = [key for key in KEYS if key not in ("a", "a/b")]


def test_a_list_has_exact_keys_in_order(filled: Driver) -> None:
    page = filled.list()
    assert in_order(filled, (found.key for found in page.objects)) == sorted(LISTED)
    assert page.cursor is None
    assert {found.key: found.size for found in page.objects} == {key: len(key.encode()) for key in LISTED}


@pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "b/1", "b/1/", "ü", "no", "日本/写真", "a-"])
def test_a_prefix_is_text_and_not_a_folder(filled: Driver, prefix: str) -> None:
    found = in_order(filled, (found.key for found in filled.list(prefix).objects))
    assert found == sorted(k for k in LISTED if k.startswith(prefix))


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", (["a", "b", "ü", "日本"], ["a-b", "a0"])),
        ("a/", (["b"], ["z"])),
        ("b/", ([], ["1", "10", "2"])),
        ("no/", ([], [])),
    ],
)
def test_a_folder_shows_what_is_directly_in_it(
    filled: Driver, prefix: str, expected: tuple[list[str], list[str]]
) -> None:
    assert filled.names(prefix) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, len(LISTED), 100])
def test_pages_join_to_the_whole(filled: Driver, limit: int) -> None:
    assert in_order(filled, (found.key for found in walk(filled, page=limit))) == sorted(LISTED)
    below = in_order(filled, (found.key for found in walk(filled, "a", page=limit)))
    assert below == sorted(k for k in LISTED if k.startswith("a"))


PATHS = st.lists(st.sampled_from("ab-0"), min_size=1, max_size=3).map("/".join)


@given(keys=st.sets(PATHS, max_size=8), data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_page_is_what_sorting_says(driver: Driver, keys: set[str], data: Any) -> None:
    base = f"{uuid.uuid4().hex}/"  # examples share one store
    folders = {key[:at] for key in keys for at, char in enumerate(key) if char == "/"}
    there = sorted(base + key for key in keys - folders)
    for key in there:
        put(driver, key, b"")
    prefix = base + data.draw(st.sampled_from(["", "a", "a/", "b", "-", "a-", "0/b"]))
    after = base + data.draw(st.sampled_from(["", "a", "a/b", "a-", "b/", "0/b/a"]))
    expected = [key for key in there if key.startswith(prefix) and key > after]
    if Capability.ORDERED_LIST in driver.capabilities:
        page = driver.list(prefix, after=after, limit=3)
        assert [found.key for found in page.objects] == expected[:3]
        assert (page.cursor is not None) == (len(expected) > 3)
    else:
        assert sorted(found.key for found in walk(driver, prefix, page=3)) == [k for k in there if k.startswith(prefix)]


ODD = [
    "with space.jpg",
    " leading and trailing ",
    "-rf",
    "--help",
    "[brackets] {braces} (parens).txt",
    "quote ' and \" and `",
    "hash#question?percent%20.txt",
    "Größe.txt",
    "caf\u00e9.txt",
    "cafe\u0301.txt",
    "📷🎉.png",
    "日本語.txt",
    "a" * 255,
    ".hidden",
    "...",
    "dots..inside",
    "new*glob?.txt",
    "$HOME;rm -rf;&|",
    "x" * 200 + "/" + "y" * 200,
    "semi;colon:colon",
    "\u202egpj.exe",
]


@pytest.mark.parametrize("key", ODD, ids=[str(number) for number in range(len(ODD))])
def test_odd_keys_work(driver: Driver, key: str) -> None:
    put(driver, key, b"odd")
    assert read(driver, key) == b"odd"
    assert [found.key for found in walk(driver)] == [key]
    assert driver.delete(key)


WRONG = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../evil",
    "a/../../evil",
    "a/..",
    "a/./b",
    "a//b",
    "a/",
    "/a",
    "nul\0byte",
    "new\nline",
    "back\\slash",
    "..\\evil",
    "x" * 256,
    "ü" * 128,
    "/".join(["x" * 200] * 6),
    "lone\udcffsurrogate",
    ".koan-reserved",
    "a/.koan-x/b",
]


@pytest.mark.parametrize("key", WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_wrong_keys_are_refused_by_every_verb(driver: Driver, key: str) -> None:
    put(driver, "good", b"x")
    for verb in (
        lambda: put(driver, key, b"x"),
        lambda: put(driver, key, b"x", overwrite=True),
        lambda: driver.open(key),
        lambda: driver.open_range(key, 0),
        lambda: driver.stat(key),
        lambda: driver.exists(key),
        lambda: driver.delete(key),
        lambda: driver.checksum(key),
        lambda: driver.copy_within("good", key),
        lambda: driver.copy_within(key, "other"),
    ):
        with pytest.raises(InvalidKeyError):
            verb()
    assert [found.key for found in walk(driver)] == ["good"]


def test_an_address_is_signed_or_the_error_names_what_is_missing(driver: Driver) -> None:
    minute = timedelta(minutes=1)
    for capability, sign in (
        (Capability.PRESIGNED_GET, driver.presign_get),
        (Capability.PRESIGNED_PUT, driver.presign_put),
        (Capability.PRESIGNED_POST, driver.presign_post),
    ):
        if capability in driver.capabilities:
            assert sign("k", minute)
            with pytest.raises(InvalidKeyError):
                sign("../k", minute)
        else:
            with pytest.raises(CapabilityError, match=capability.value):
                sign("k", minute)


def test_the_probe_passes_and_leaves_nothing(driver: Driver) -> None:
    driver.probe()
    put(driver, "k", b"x")
    driver.probe()
    assert [found.key for found in walk(driver)] == ["k"]


def test_the_place_tells_stores_apart(driver: Driver) -> None:
    assert driver.place
    assert driver.place == driver.place
