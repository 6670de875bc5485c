"""What the S3 driver promises beyond the contract: few requests, whole objects, and errors that say what to do."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from storages.backends.s3 import S3Storage

from koan_django.core.classification import is_transient
from koan_django.storage import (
    CapabilityError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
    StorageRefusedError,
    StorageUnavailableError,
)
from koan_django.storage.drivers.base import Capability, walk
from koan_django.storage.drivers.s3 import S3Driver, refusals
from koan_django.storage.drivers.s3 import bucket as module
from tests.services import wait_until
from tests.services.proxy import Proxy
from tests.services.s3 import Bucket

MIB = 1024 * 1024
#: Three parts of five MiB, the last one short.
BIG = os.urandom(1024) * (11 * 1024)
Requests = list[str]


@pytest.fixture
def make(bucket: Bucket) -> Callable[..., S3Driver]:
    """Make a driver for the bucket of the test: ``make(location="a")``, ``make(access_key="wrong")``."""

    def made(kind: type[S3Driver] = S3Driver, **options: Any) -> S3Driver:
        backend = S3Storage(**{**bucket.options, **options})
        backend.transfer_config.multipart_chunksize = 5 * MIB
        return kind(backend)

    return made


@pytest.fixture
def driver(make: Callable[..., S3Driver]) -> S3Driver:
    return make()


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    with Proxy.before(bucket.options["endpoint_url"]) as made:
        yield made


@pytest.fixture
def far(make: Callable[..., S3Driver], bucket: Bucket, proxy: Proxy) -> S3Driver:
    """A driver behind the proxy, which gives up soon."""
    config = Config(
        read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3}, s3={"addressing_style": "path"}
    )
    return make(endpoint_url=proxy.url(bucket.options["endpoint_url"]), client_config=config)


def watched(driver: S3Driver) -> Requests:
    """Return the list that each request of ``driver`` from now on adds its name to."""
    seen: Requests = []

    def note(request: Any, event_name: str, **_: Any) -> None:
        seen.append(event_name.rpartition(".")[2])

    for client in (driver.client, driver.bucket.hasty):
        client.meta.events.register("before-send.s3", note)
    return seen


class Acting:
    """A stream that does something after so many bytes."""

    def __init__(self, data: bytes, after: int, act: Callable[[], None]) -> None:
        self._stream, self._after, self._act = io.BytesIO(data), after, act

    def read(self, size: int = -1, /) -> bytes:
        if self._stream.tell() >= self._after:
            self._after = len(self._stream.getvalue()) + 1
            self._act()
        return self._stream.read(size)


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_each_verb_takes_as_many_requests_as_it_must(driver: S3Driver) -> None:
    driver.put("k", io.BytesIO(b"0123456789"))
    costs: list[tuple[Callable[[], object], Requests]] = [
        (lambda: driver.put("new", io.BytesIO(b"x")), ["PutObject"]),
        (lambda: driver.put("k", io.BytesIO(b"0123456789"), overwrite=True), ["PutObject"]),
        (lambda: driver.open("k").read(), ["GetObject"]),
        (lambda: driver.open_range("k", 1, 3).read(), ["GetObject"]),
        (lambda: driver.stat("k"), ["HeadObject"]),
        (lambda: driver.exists("k"), ["HeadObject"]),
        (lambda: driver.checksum("k"), ["HeadObject"]),
        (lambda: driver.copy_within("k", "copy"), ["HeadObject", "CopyObject"]),
        (lambda: list(walk(driver)), ["ListObjectsV2"]),
        (lambda: driver.names(), ["ListObjectsV2"]),
        (lambda: driver.probe(), ["HeadBucket"]),
        (lambda: driver.url("k"), []),
        (lambda: driver.presign_put("k", timedelta(minutes=1)), []),
        (lambda: driver.delete("k"), ["HeadObject", "DeleteObject"]),
        (lambda: driver.delete("k"), ["HeadObject"]),
    ]
    seen = watched(driver)
    for act, expected in costs:
        seen.clear()
        act()
        assert seen == expected


def test_a_large_object_goes_in_parts_and_is_read_in_one_request(driver: S3Driver, bucket: Bucket) -> None:
    seen = watched(driver)
    found = driver.put("big", io.BytesIO(BIG), content_type="video/mp4")
    assert sorted(seen) == ["CompleteMultipartUpload", "CreateMultipartUpload", *["UploadPart"] * 3]
    assert (found.size, bucket.unfinished()) == (len(BIG), [])
    seen.clear()
    with driver.open("big") as stream:
        assert stream.read() == BIG
    assert seen == ["GetObject"]
    assert driver.stat("big").content_type == "video/mp4"
    assert driver.checksum("big") == found.sha256  # the store has none of the whole, so it is read


def test_a_seek_costs_one_request_and_only_what_is_read(driver: S3Driver) -> None:
    driver.put("big", io.BytesIO(BIG))
    seen = watched(driver)
    with driver.open("big") as stream:
        assert stream.seek(0, io.SEEK_END) == len(BIG)
        assert stream.read() == b""
        stream.seek(7 * MIB)
        assert stream.read(10) == BIG[7 * MIB : 7 * MIB + 10]
        stream.seek(-3, io.SEEK_END)
        assert stream.read() == BIG[-3:]
    assert seen == ["GetObject"] * 3


# -- whole or not at all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectionResetError, KeyboardInterrupt])
def test_a_stream_that_breaks_between_parts_leaves_no_object_and_no_part(
    driver: S3Driver, bucket: Bucket, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("the client went away")

    with pytest.raises(error, match="went away"):
        driver.put("big", Acting(BIG, 10 * MIB, fail))
    assert (bucket.objects(), bucket.unfinished()) == ([], [])


def test_a_loser_of_large_objects_leaves_no_part(driver: S3Driver, bucket: Bucket) -> None:
    driver.put("big", io.BytesIO(b"first"))
    with pytest.raises(ObjectExistsError):
        driver.put("big", io.BytesIO(BIG))
    assert (bucket.objects(), bucket.unfinished()) == (["big"], [])
    assert driver.open("big").read() == b"first"


def test_a_connection_that_is_cut_once_is_mended(far: S3Driver, proxy: Proxy, bucket: Bucket) -> None:
    far.put("big", Acting(BIG, 6 * MIB, proxy.cut))
    with far.open("big") as stream:
        head = stream.read(2 * MIB)
        proxy.cut()
        assert head + stream.read() == BIG
    assert bucket.unfinished() == []


def test_a_store_that_goes_away_during_a_put_leaves_nothing_half(
    far: S3Driver, driver: S3Driver, proxy: Proxy, bucket: Bucket
) -> None:
    def away() -> None:
        proxy.shut()
        proxy.cut()

    with pytest.raises(StorageUnavailableError, match="endpoint_url") as caught:
        far.put("big", Acting(BIG, 10 * MIB, away))
    assert is_transient(caught.value)
    assert bucket.objects() == []
    assert driver.sweep(timedelta(hours=1)) == 0  # it may still go on
    assert driver.sweep(timedelta(0), "elsewhere/") == 0
    assert driver.sweep(timedelta(0)) == len(["big"])
    assert bucket.unfinished() == []


def test_a_store_that_goes_away_during_a_get_is_a_passing_error(far: S3Driver, proxy: Proxy) -> None:
    far.put("big", io.BytesIO(BIG))
    with far.open("big") as stream:
        head = stream.read(MIB)
        proxy.shut()
        proxy.cut()
        with pytest.raises(StorageUnavailableError) as caught:
            stream.read()
        assert is_transient(caught.value)
        proxy.open()
        stream.seek(len(head))
        assert head + stream.read() == BIG  # and it can be read on


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(far: S3Driver, proxy: Proxy) -> None:
    far.put("big", io.BytesIO(BIG))
    with far.open("big") as stream:
        stream.read(MIB)
        far.put("big", io.BytesIO(b"other"), overwrite=True)
        stream.seek(9 * MIB)
        with pytest.raises(StorageUnavailableError, match="it was replaced"):
            stream.read()


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "parts"])
def test_an_answer_that_got_lost_is_no_conflict(far: S3Driver, proxy: Proxy, bucket: Bucket, data: bytes) -> None:
    """The store has the object, nobody heard of it, and the request is sent again."""
    withhold = threading.Event()

    def note(request: Any, event_name: str, **_: Any) -> None:
        if event_name.endswith(("PutObject", "CompleteMultipartUpload")) and not withhold.is_set():
            withhold.set()
            proxy.pause("down")
            threading.Thread(target=lose).start()

    def lose() -> None:
        wait_until(lambda: bucket.objects() == ["k"], what="the object to be there")
        proxy.cut()
        proxy.resume()

    far.client.meta.events.register("before-send.s3", note)
    far.put("k", io.BytesIO(data))
    assert far.open("k").read() == data
    with pytest.raises(ObjectExistsError):
        far.put("k", io.BytesIO(data))


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"secret_key": "wrong"}, "secret_key"),
        ({"access_key": "nobody"}, "access_key"),
        ({"bucket_name": "no-such-bucket"}, "Create the bucket"),
        ({"bucket_name": "Not a name"}, "bucket_name"),
        ({"access_key": "reader", "secret_key": "reader-secret"}, "may put, get, delete and list"),
    ],
)
def test_what_no_repetition_changes_is_told_with_its_remedy(
    make: Callable[..., S3Driver], options: dict[str, str], remedy: str
) -> None:
    driver = make(**options)
    for data in (b"x", BIG):
        with pytest.raises(StorageRefusedError, match=remedy) as caught:
            driver.put("k", io.BytesIO(data))
        assert not is_transient(caught.value)
        assert "wrong" not in str(caught.value)


def test_a_store_that_is_not_there_is_a_passing_error(make: Callable[..., S3Driver], free_port: int) -> None:
    driver = make(endpoint_url=f"http://127.0.0.1:{free_port}")
    with pytest.raises(StorageUnavailableError, match="endpoint_url"):
        driver.probe()


def test_the_probe_asks_once_and_gives_up(far: S3Driver, proxy: Proxy) -> None:
    seen = watched(far)
    proxy.pause()
    with pytest.raises(StorageUnavailableError):
        far.probe()
    assert seen == ["HeadBucket"]


def test_the_probe_tells_a_missing_bucket(make: Callable[..., S3Driver]) -> None:
    with pytest.raises(StorageRefusedError, match="there is no bucket 'no-such-bucket'"):
        make(bucket_name="no-such-bucket").probe()


@pytest.mark.parametrize(
    ("code", "status", "kind", "transient"),
    [
        ("QuotaExceeded", 403, StorageFullError, True),
        ("InsufficientStorage", 507, StorageFullError, True),
        ("SlowDown", 503, StorageUnavailableError, True),
        ("InternalError", 500, StorageUnavailableError, True),
        ("ExpiredToken", 400, StorageUnavailableError, True),
        ("ConditionalRequestConflict", 409, StorageUnavailableError, True),
        ("NoSuchUpload", 404, StorageUnavailableError, True),
        ("NotImplemented", 501, CapabilityError, False),
        ("AccessDenied", 403, StorageRefusedError, False),
        ("PermanentRedirect", 301, StorageRefusedError, False),
        ("EntityTooLarge", 400, StorageRefusedError, False),
    ],
)
def test_answers_that_the_store_of_the_tests_does_not_give(
    code: str, status: int, kind: type[StorageError], transient: bool
) -> None:
    answer = {"Error": {"Code": code, "Message": "Because."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind, match="Because") as caught, refusals.translated("k"):
        raise ClientError(answer, "PutObject")
    assert is_transient(caught.value) is transient


# -- the place ---------------------------------------------------------------------------------------------------------


def test_a_location_is_never_left(make: Callable[..., S3Driver], bucket: Bucket) -> None:
    one, other, whole = make(location="app"), make(location="app-evil"), make()
    one.put("k", io.BytesIO(b"1"))
    other.put("k", io.BytesIO(b"2"))
    assert bucket.objects() == ["app-evil/k", "app/k"] or bucket.objects() == ["app/k", "app-evil/k"]
    assert [found.key for found in walk(one)] == ["k"]
    assert one.delete("k")
    assert [found.key for found in walk(whole)] == ["app-evil/k"]
    assert len({one.place, other.place, whole.place}) == 3


def test_an_object_beside_a_folder_of_its_name_hides_nothing(driver: S3Driver) -> None:
    keys = ["d", "d-z", "d/x", "d/y", "d0"]
    for key in keys:
        driver.put(key, io.BytesIO(b""))
    assert sorted(found.key for found in walk(driver, page=1)) == keys


def test_keys_that_others_made_are_left_out(driver: S3Driver, bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="folder/", Body=b"")
    driver.put("k", io.BytesIO(b""))
    assert [found.key for found in walk(driver)] == ["k"]


def test_a_fork_has_a_client_of_its_own(driver: S3Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = driver.client
    assert driver.client is ours
    monkeypatch.setattr(module.os, "getpid", lambda: 1)
    assert driver.client is not ours


def test_the_backends_own_settings_win(make: Callable[..., S3Driver]) -> None:
    assert make().client.meta.config.signature_version == "s3v4"
    assert make().client.meta.config.connect_timeout == 5
    config = make(client_config=Config(connect_timeout=1, signature_version="s3")).client.meta.config
    assert (config.connect_timeout, config.signature_version) == (1, "s3")


def test_what_the_backend_gives_its_objects_is_given(make: Callable[..., S3Driver], bucket: Bucket) -> None:
    driver = make(object_parameters={"CacheControl": "max-age=60", "Metadata": {"team": "blue"}})
    for key, data in (("small", b"x"), ("big", BIG)):
        driver.put(key, io.BytesIO(data), content_type="text/plain")
        head = bucket.client.head_object(Bucket=bucket.name, Key=key)
        assert (head["CacheControl"], head["Metadata"]["team"], head["ContentType"]) == (
            "max-age=60",
            "blue",
            "text/plain",
        )


# -- copies ------------------------------------------------------------------------------------------------------------


class SmallCopies(S3Driver):
    copy_limit = 6 * MIB


def test_what_is_too_large_for_one_request_is_copied_in_parts(make: Callable[..., S3Driver], bucket: Bucket) -> None:
    driver = make(SmallCopies)
    sha256 = driver.put("big", io.BytesIO(BIG), content_type="video/mp4").sha256
    seen = watched(driver)
    driver.copy_within("big", "copy")
    assert sorted(seen) == ["CompleteMultipartUpload", "CreateMultipartUpload", "HeadObject", *["UploadPartCopy"] * 2]
    assert (driver.stat("copy").content_type, driver.checksum("copy")) == ("video/mp4", sha256)
    with pytest.raises(ObjectExistsError):
        driver.copy_within("big", "copy")
    assert bucket.unfinished() == []


def test_a_copy_goes_between_buckets_with_its_metadata(
    make: Callable[..., S3Driver], driver: S3Driver, bucket: Bucket
) -> None:
    source = make(object_parameters={"CacheControl": "max-age=60", "Metadata": {"team": "blue"}})
    source.put("k", io.BytesIO(b"x"), content_type="text/plain")
    with bucket.server.bucket() as second:
        other = make(bucket_name=second.name, location="archive")
        seen = watched(other)
        other.copy_from(source, "k", "new")
        assert seen == ["CopyObject"]
        head = second.client.head_object(Bucket=second.name, Key="archive/new")
        assert (head["CacheControl"], head["Metadata"]["team"]) == ("max-age=60", "blue")
        assert other.checksum("new") == source.checksum("k")


def test_a_store_that_does_not_copy_is_no_dead_end(make: Callable[..., S3Driver], driver: S3Driver) -> None:
    driver.put("k", io.BytesIO(b"x"))
    with pytest.raises(CapabilityError):
        driver.copy_from(make(access_key="reader", secret_key="reader-secret"), "k", "new")
    with pytest.raises(CapabilityError, match="does not copy"):
        make(access_key="reader", secret_key="reader-secret").copy_within("k", "new")


# -- a store that cannot create exclusively ----------------------------------------------------------------------------


def test_without_conditions_the_driver_asks_first(driver: S3Driver) -> None:
    driver.capabilities -= {Capability.EXCLUSIVE_CREATE}
    seen = watched(driver)
    driver.put("k", io.BytesIO(b"old"))
    assert seen == ["HeadObject", "PutObject"]
    for attempt in (lambda: driver.put("k", io.BytesIO(b"new")), lambda: driver.copy_within("k", "k")):
        with pytest.raises(ObjectExistsError):
            attempt()
    assert driver.open("k").read() == b"old"
