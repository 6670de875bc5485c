"""Addresses that read an object, and files that clients send straight to the store."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from koan_django.storage import (
    CapabilityError,
    ObjectNotFoundError,
    PresignedUpload,
    UploadRefusedError,
    deletion,
)
from koan_django.storage.models import Tombstone
from koan_django.testing import override_koan
from tests.media.testapp.models import Photo
from tests.services.s3 import Bucket
from tests.storage.models import Document, Invoice

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def on_s3(settings: Any, bucket: Bucket) -> Any:
    """Put the profile of the models on a bucket."""
    settings.STORAGES = {
        **settings.STORAGES,
        "remote": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": bucket.options},
    }
    with override_koan(
        STORAGE={"DEFAULT_PROFILE": "hot", "PROFILES": {"hot": {"STORAGE": "remote", "CONTAINER": "shop"}}}
    ):
        yield bucket


def answered(url: str) -> tuple[bytes, str, str]:
    with urllib.request.urlopen(url) as answer:
        return answer.read(), answer.headers["Content-Type"], answer.headers["Content-Disposition"]


def send(upload: PresignedUpload, data: bytes, **headers: str) -> int:
    """Send ``data`` as a client does and return the status of the answer."""
    request = urllib.request.Request(upload.url, data, {**upload.headers, **headers}, method=upload.method)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# -- reading -----------------------------------------------------------------------------------------------------------


def test_an_address_reads_the_object_under_the_users_name(on_s3: Bucket) -> None:
    row = Document.objects.create_bytes("Größe 1.png", b"picture", content_type="image/png")
    data, media_type, disposition = answered(row.presigned_url(expires=timedelta(minutes=1)))
    assert (data, media_type) == (b"picture", "image/png")
    assert disposition == "inline; filename*=utf-8''Gr%C3%B6%C3%9Fe%201.png"
    assert answered(row.presigned_url(as_attachment=True))[2].startswith("attachment; ")


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a"])
def test_what_a_browser_would_run_is_always_an_attachment(on_s3: Bucket, name: str) -> None:
    row = Document.objects.create_bytes(name, b"<script>")
    assert answered(row.presigned_url())[2].startswith("attachment; ")


def test_an_address_that_was_changed_is_refused(on_s3: Bucket) -> None:
    row = Document.objects.create_text("a.txt", "a")
    url = row.presigned_url()
    for changed in (url.replace("inline", "attachment"), url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")):
        assert changed != url
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed)
        assert caught.value.code == 403
        caught.value.close()


@pytest.mark.parametrize("expires", [timedelta(0), timedelta(days=8), timedelta(seconds=-1)])
def test_an_address_lives_no_longer_than_a_week(on_s3: Bucket, expires: timedelta) -> None:
    row = Document.objects.create_text("a.txt", "a")
    with pytest.raises(ValueError, match="seven days"):
        row.presigned_url(expires=expires)


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_file_goes_to_the_store_and_then_has_its_row(on_s3: Bucket) -> None:
    upload = Invoice.presigned_upload("invoice 1.pdf", size=4, sha256=hashlib.sha256(b"data").hexdigest())
    assert send(upload, b"data") == 200
    row = Invoice.objects.from_upload(upload.token, number="1")
    row.refresh_from_db()
    assert (row.original_name, row.content_type, row.size, row.profile) == (
        "invoice 1.pdf",
        "application/pdf",
        4,
        "hot",
    )
    assert row.sha256 == hashlib.sha256(b"data").hexdigest()
    assert row.read_bytes() == b"data"
    assert not Tombstone.objects.exists()


def test_the_hash_is_taken_from_the_store_where_none_was_announced(on_s3: Bucket) -> None:
    upload = Invoice.presigned_upload("a.txt")
    assert send(upload, b"data") == 200
    assert Invoice.objects.from_upload(upload.token, number="1").sha256 == hashlib.sha256(b"data").hexdigest()


@pytest.mark.parametrize(
    ("data", "headers"),
    [(b"longer", {}), (b"dato", {}), (b"data", {"Content-Type": "text/html"})],
    ids=["size", "hash", "type"],
)
def test_the_store_refuses_what_was_not_announced(on_s3: Bucket, data: bytes, headers: dict[str, str]) -> None:
    upload = Invoice.presigned_upload("a.pdf", size=4, sha256=hashlib.sha256(b"data").hexdigest())
    assert send(upload, data, **headers) in (400, 403)
    with pytest.raises(ObjectNotFoundError):
        Invoice.objects.from_upload(upload.token, number="1")
    assert not Invoice.objects.exists()


def test_bytes_cannot_be_replaced_once_they_are_there(on_s3: Bucket) -> None:
    upload = Invoice.presigned_upload("a.pdf")
    assert send(upload, b"data") == 200
    assert send(upload, b"evil") == 412
    row = Invoice.objects.from_upload(upload.token, number="1")
    assert send(upload, b"evil") == 412
    assert row.read_bytes() == b"data"


@pytest.mark.database
def test_an_upload_is_taken_over_once_and_by_its_own_model(on_s3: Bucket) -> None:
    upload = Invoice.presigned_upload("a.pdf")
    send(upload, b"data")
    for token in (upload.token + "x", "", "a:b:c"):
        with pytest.raises(UploadRefusedError, match="not one of ours"):
            Invoice.objects.from_upload(token, number="1")
    with pytest.raises(UploadRefusedError, match=r"announced for .*Invoice"):
        Document.objects.from_upload(upload.token)
    Invoice.objects.from_upload(upload.token, number="1")
    with pytest.raises(UploadRefusedError, match="taken over before"):
        Invoice.objects.from_upload(upload.token, number="2")


@pytest.mark.database
def test_a_row_that_cannot_be_made_leaves_the_upload_to_be_taken_over(on_s3: Bucket) -> None:
    Invoice.objects.create_text("a.txt", "a", number="1")
    upload = Invoice.presigned_upload("a.pdf")
    send(upload, b"data")
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), transaction.atomic():
        Invoice.objects.from_upload(upload.token, number="1")
    assert Invoice.objects.from_upload(upload.token, number="2").read_bytes() == b"data"


@pytest.mark.database
def test_an_upload_that_nobody_takes_over_is_swept(on_s3: Bucket) -> None:
    upload = Invoice.presigned_upload("a.pdf", expires=timedelta(minutes=5))
    send(upload, b"data")
    deletion.purge_due()
    assert len(on_s3.objects()) == 1  # it may still be taken over
    Tombstone.objects.update(not_before=None)
    deletion.purge_due()
    assert on_s3.objects() == []
    with pytest.raises(UploadRefusedError):
        Invoice.objects.from_upload(upload.token, number="1")


def test_what_must_be_inspected_is_not_sent_past_the_application(on_s3: Bucket) -> None:
    with pytest.raises(CapabilityError, match="looked into"):
        Photo.presigned_upload("a.png")


def test_a_folder_signs_nothing() -> None:
    row = Document.objects.create_text("a.txt", "a")
    with pytest.raises(CapabilityError, match="presigned-get"):
        row.presigned_url()
    with pytest.raises(CapabilityError, match="presigned-put"):
        Document.presigned_upload("a.txt")
    assert not Tombstone.objects.exists()
