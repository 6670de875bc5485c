"""Rows whose objects move between folders and buckets: verified, with what belongs to them, and never half."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config

from koan_django.core.classification import is_transient
from koan_django.storage import StorageUnavailableError, VerificationError, deletion, operations, profiles
from koan_django.storage.models import Tombstone
from koan_django.testing import override_koan
from tests.services.proxy import Proxy
from tests.services.s3 import Bucket
from tests.storage.models import Document

pytestmark = [pytest.mark.django_db]

MIB = 1024 * 1024


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Proxy]:
    with Proxy.before(bucket.options["endpoint_url"]) as made:
        yield made


@pytest.fixture
def places(settings: Any, bucket: Bucket, proxy: Proxy) -> Iterator[Bucket]:
    """A folder, two buckets of one account, and one of them again as somebody else who comes through the proxy."""
    backend = "storages.backends.s3.S3Storage"
    config = Config(
        connect_timeout=2, read_timeout=2, s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}
    )
    behind = {**bucket.options, "endpoint_url": proxy.url(bucket.options["endpoint_url"]), "client_config": config}
    with bucket.server.bucket() as second:
        settings.STORAGES = {
            **settings.STORAGES,
            "one": {"BACKEND": backend, "OPTIONS": bucket.options},
            "two": {"BACKEND": backend, "OPTIONS": second.options},
            "far": {"BACKEND": backend, "OPTIONS": behind},
        }
        names = {name: {"STORAGE": name, "CONTAINER": name} for name in ("one", "two", "far")}
        with override_koan(STORAGE={"PROFILES": names}):
            yield second


def watched(profile: str) -> list[str]:
    seen: list[str] = []

    def note(request: Any, event_name: str, **_: Any) -> None:
        seen.append(event_name.rpartition(".")[2])

    profiles[profile].driver.client.meta.events.register("before-send.s3", note)
    return seen


def test_an_object_goes_from_the_folder_through_both_buckets_and_back(
    places: Bucket, bucket: Bucket, files: Any
) -> None:
    row = Document.objects.create_bytes("a.png", b"picture", content_type="image/png")
    for profile in ("one", "two", "far", "hot"):
        assert row.move_to_profile(profile)
        deletion.purge_due()
        found = Document.objects.get()
        assert (found.profile, found.read_bytes(), found.content_type) == (profile, b"picture", "image/png")
        assert found.sha256 == hashlib.sha256(b"picture").hexdigest()
        assert len(bucket.objects()) + len(places.objects()) + len(files()) == 1
        if profile != "hot":
            assert profiles[profile].driver.stat(f"{profile}/{found.key}").content_type == "image/png"
    assert not Tombstone.objects.exists()


def test_between_buckets_of_one_account_no_byte_comes_this_way(places: Bucket) -> None:
    row = Document.objects.create_bytes("a.png", b"picture", content_type="image/png")
    row.move_to_profile("one")
    one, two = watched("one"), watched("two")
    row.move_to_profile("two")
    assert (one, two) == (["HeadObject"], ["CopyObject", "HeadObject"])  # the last: the hash that the store keeps


def test_metadata_of_the_store_comes_along_with_a_copy_inside_it(places: Bucket, bucket: Bucket) -> None:
    row = Document.objects.create_bytes("a.txt", b"text", content_type="text/plain")
    row.move_to_profile("one")
    target = {"Bucket": bucket.name, "Key": f"one/{row.key}"}
    bucket.client.copy_object(
        **target,
        CopySource=target,
        MetadataDirective="REPLACE",
        Metadata={"team": "blue"},
        CacheControl="max-age=60",
        ContentType="text/plain",
    )
    row.move_to_profile("two")
    head = places.client.head_object(Bucket=places.name, Key=f"two/{row.key}")
    assert (head["Metadata"]["team"], head["CacheControl"]) == ("blue", "max-age=60")


def test_a_copy_that_is_not_the_same_is_refused_and_removed(places: Bucket, bucket: Bucket) -> None:
    row = Document.objects.create_bytes("a.txt", b"text")
    row.move_to_profile("one")
    bucket.client.put_object(Bucket=bucket.name, Key=f"one/{row.key}", Body=b"rot")
    with pytest.raises(VerificationError):
        row.move_to_profile("two")
    deletion.purge_due()
    assert places.objects() == []
    assert Document.objects.get().profile == "one"


@pytest.mark.parametrize("moment", ["sending", "reading"])
def test_a_store_that_goes_away_leaves_the_row_where_it_was(
    places: Bucket, bucket: Bucket, proxy: Proxy, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * (40 * 1024)  # more than one part, and than sockets hold
    row = Document.objects.create_bytes("a.bin", data)
    source, target = ("hot", "far") if moment == "sending" else ("far", "hot")
    if source == "far":
        row.move_to_profile("far")
    client = profiles["far"].driver.client

    def away(**_: Any) -> None:
        proxy.shut()
        proxy.cut()

    event = "before-send.s3.UploadPart" if moment == "sending" else "after-call.s3.GetObject"
    client.meta.events.register_last(event, away)
    with pytest.raises(StorageUnavailableError) as caught:
        row.move_to_profile(target)
    assert is_transient(caught.value)
    assert Document.objects.get().profile == source
    client.meta.events.unregister(event, away)
    proxy.open()
    deletion.purge_due()
    assert Document.objects.get().read_bytes() == data
    assert row.move_to_profile(target)
    assert Document.objects.get().read_bytes() == data
    assert operations.exists(profiles[target], row.key)
