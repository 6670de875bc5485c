"""A row and its object: made, described, read, replaced."""

from __future__ import annotations

import hashlib
import io
import pickle
import tempfile
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django import forms
from django.core.files.base import ContentFile, File
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import IntegrityError

from koan_django.storage import (
    CapabilityError,
    InvalidKeyError,
    ObjectNotFoundError,
    ProfileError,
    RangeError,
    profiles,
)
from tests.storage.models import ArchivedInvoice, Customer, Document, DraftInvoice, Invoice, Scan

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

DATA = bytes(range(256)) * 5000
ODD_NAMES = [
    "with space (1).txt",
    "Größe [ß].txt",
    "caf\u00e9.txt",
    "cafe\u0301.txt",
    "📷🎉.txt",
    "日本語.txt",
    "-rf.txt",
    "ü" * 251 + ".txt",
    "semi;colon & 'quote'.txt",
]


class Once:
    """A stream that reads forward only, and counts."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.given += len(chunk)
        return chunk


def test_text_is_stored_as_utf_8_and_described() -> None:
    Invoice.objects.create_text("Größe 1.json", '{"a": "ä"}', number="1")
    invoice = Invoice.objects.get()
    assert invoice.read_text() == '{"a": "ä"}'
    assert invoice.sha256 == hashlib.sha256('{"a": "ä"}'.encode()).hexdigest()
    assert (invoice.size, invoice.content_type, invoice.profile) == (11, "application/json", "hot")
    assert invoice.original_name == "Größe 1.json"
    assert invoice.key.startswith("invoices/")
    assert invoice.key.endswith("-groe-1.json")
    assert invoice.head().size == 11
    assert invoice.exists()
    assert str(invoice) == "Größe 1.json"


def test_bytes_json_and_the_media_type_they_get() -> None:
    kinds = [
        (Document.objects.create_bytes("a.bin", b"x"), "application/octet-stream"),
        (Document.objects.create_bytes("a.png", b"x"), "image/png"),
        (Document.objects.create_text("notes", "x"), "text/plain"),
        (Document.objects.create_bytes("a.png", b"x", content_type="Image/WebP; q=1"), "image/webp"),
        (Document.objects.create_bytes("a.png", b"x", content_type="no type\r\nX: y"), "image/png"),
        (Document.objects.create_json("a", {"due": date(2026, 1, 2), "sum": Decimal("1.50")}), "application/json"),
    ]
    for document, expected in kinds:
        assert document.content_type == expected
    assert kinds[-1][0].read_text() == '{"due": "2026-01-02", "sum": "1.50"}'


@pytest.mark.parametrize("name", ODD_NAMES, ids=[str(number) for number in range(len(ODD_NAMES))])
def test_odd_names_are_kept_and_read_back(name: str) -> None:
    document = Document.objects.create_text(name, name)
    document.refresh_from_db()
    assert document.original_name == name
    assert document.read_text() == name
    assert document.key.isascii()


def _temporary() -> Any:
    upload = TemporaryUploadedFile("big.bin", "application/x-big", len(DATA), None)
    upload.write(DATA)
    return upload


def _spooled() -> Any:
    stream = tempfile.SpooledTemporaryFile(max_size=10)  # noqa: SIM115  # the test closes it
    stream.write(DATA)
    return stream


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimpleUploadedFile("a.bin", DATA),
        lambda: ContentFile(DATA, name="a.bin"),
        lambda: File(io.BytesIO(DATA), name="a.bin"),
        lambda: io.BytesIO(DATA),
        lambda: Once(DATA),
        _temporary,
        _spooled,
    ],
    ids=["simple", "content", "file", "bytes-io", "forward-only", "temporary", "spooled"],
)
def test_any_stream_can_be_uploaded_from_its_beginning(make: Callable[[], Any]) -> None:
    stream = make()
    if hasattr(stream, "seek"):
        stream.seek(1000)  # as after a look at the first bytes
    document = Document.objects.upload(stream)
    assert document.read_bytes() == DATA
    assert document.size == len(DATA)
    if hasattr(stream, "close"):
        stream.close()


def test_an_upload_brings_its_name_and_type_unless_they_are_given() -> None:
    upload = SimpleUploadedFile("Photo 1.JPG", b"x", "image/jpeg")
    document = Document.objects.upload(upload)
    assert (document.original_name, document.content_type) == ("Photo 1.JPG", "image/jpeg")
    document = Document.objects.upload(upload, name="other.png", content_type="image/png")
    assert (document.original_name, document.content_type) == ("other.png", "image/png")
    assert Document.objects.upload(io.BytesIO(b"x")).original_name == "unnamed"


def test_the_bytes_are_read_once() -> None:
    stream = Once(DATA)
    document = Document.objects.upload(stream, name="a")
    assert stream.given == len(DATA)
    assert document.sha256 == hashlib.sha256(DATA).hexdigest()


def test_ranges_include_both_ends_and_are_cut() -> None:
    document = Document.objects.create_bytes("a", b"0123456789")
    with document.open_range(2, 4) as found:
        assert (found.read(), found.total) == (b"234", 10)
    with document.open_range(8, 1000) as found:
        assert found.read() == b"89"
    with document.open_range(5) as found:
        assert found.read() == b"56789"
    with pytest.raises(RangeError):
        document.open_range(10)


def test_open_gives_independent_streams() -> None:
    document = Document.objects.create_bytes("a", b"0123456789")
    with document.open() as one, document.open() as other:
        assert one.read(3) == b"012"
        assert other.read() == b"0123456789"


def test_the_field_works_as_django_s_own() -> None:
    document = Document.objects.create(file=ContentFile(b"0123", name="a.txt"), title="t")
    assert document.file.size == 4
    with document.file.open() as stream:
        assert stream.read() == b"0123"
    with document.file.open("rb") as stream:  # again, after it was closed
        assert b"".join(stream.chunks()) == b"0123"
    with pytest.raises(ValueError, match="save new content instead"):
        document.file.open("wb")
    assert document.file == document.key
    copy = pickle.loads(pickle.dumps(document))
    assert copy.read_bytes() == b"0123"
    assert copy.file.profile.name == "hot"


def test_a_form_stores_keeps_and_clears() -> None:
    class CustomerForm(forms.ModelForm):
        class Meta:
            model = Customer
            fields = ("name", "avatar")

    form = CustomerForm({"name": "A"}, {"avatar": SimpleUploadedFile("me.png", b"png", "image/png")})
    customer = form.save()
    key = customer.avatar.name
    assert key.startswith("avatars/")
    CustomerForm({"name": "B"}, {}, instance=customer).save()
    assert Customer.objects.get(name="B").avatar.name == key
    rendered = str(CustomerForm(instance=customer))
    assert "avatar" in rendered  # a profile without addresses must not break the page
    CustomerForm({"name": "B", "avatar-clear": "on"}, {}, instance=customer).save()
    assert not Customer.objects.get().avatar
    assert not profiles["hot"].driver.exists(f"hot/{key}")


def test_a_related_manager_adds_its_own_key() -> None:
    customer = Customer.objects.create(name="A")
    made = [
        customer.documents.create_text("a.txt", "A"),
        customer.documents.upload(io.BytesIO(b"B"), name="b"),
    ]
    assert {document.customer for document in made} == {customer}
    assert made[0].key.startswith("storage/document/")


def test_bulk_create_stores_and_describes() -> None:
    made = [Document(file=ContentFile(b"%d" % number, name=f"{number}.txt")) for number in range(3)]
    Document.objects.bulk_create(made)
    assert [(found.read_bytes(), found.size) for found in Document.objects.order_by("pk")] == [
        (b"0", 1),
        (b"1", 1),
        (b"2", 1),
    ]


def test_naming_the_file_alone_updates_what_describes_it() -> None:
    document = Document.objects.create_text("one.txt", "one", title="kept")
    document.title = "not saved"
    document.file = ContentFile(b"three", name="three.bin")
    document.save(update_fields=["file"])
    document.refresh_from_db()
    assert (document.size, document.original_name, document.title) == (5, "three.bin", "kept")
    assert document.sha256 == hashlib.sha256(b"three").hexdigest()


def test_update_or_create_replaces_file_and_description() -> None:
    Invoice.objects.create_text("a.txt", "old", number="1")
    invoice, created = Invoice.objects.update_or_create(
        number="1", defaults={"file": ContentFile(b"newer", name="b.txt")}
    )
    assert not created
    invoice.refresh_from_db()
    assert (invoice.size, invoice.read_text()) == (5, "newer")


def test_saving_through_the_field_saves_the_row() -> None:
    document = Document(title="t")
    document.file.save("a.txt", ContentFile(b"abc"))
    assert Document.objects.get().read_bytes() == b"abc"
    document.file.save("b.txt", ContentFile(b"abcd"))
    assert (Document.objects.get().read_bytes(), Document.objects.get().size) == (b"abcd", 4)


def test_a_failed_insert_can_be_put_right_and_saved() -> None:
    Invoice.objects.create_text("a.txt", "a", number="1")
    invoice = Invoice(number="1", file=ContentFile(b"mine", name="b.txt"))
    with pytest.raises(IntegrityError):
        invoice.save()
    invoice.number = "2"
    invoice.save()
    assert Invoice.objects.get(number="2").read_bytes() == b"mine"


def test_proxies_and_children_store_where_their_parent_does() -> None:
    assert DraftInvoice.objects.create_text("a", "a", number="1").key.startswith("invoices/")
    scan = Scan.objects.create_text("a", "a", number="2", pages=3)
    assert scan.key.startswith("invoices/")
    assert Invoice.objects.get(number="2").read_text() == "a"


def test_a_row_without_an_object_says_so() -> None:
    document = Document(title="t")
    assert not document.exists()
    assert document.key == ""
    with pytest.raises(ValueError, match="has no file"):
        document.open()


def test_what_is_gone_from_the_store_is_not_found() -> None:
    document = Document.objects.create_text("a", "a")
    profiles["hot"].driver.delete(profiles["hot"].at(document.key))
    assert not document.exists()
    with pytest.raises(ObjectNotFoundError):
        document.read_text()
    with pytest.raises(ObjectNotFoundError):
        document.head()


def test_a_key_from_elsewhere_cannot_leave_the_store() -> None:
    document = Document.objects.create_text("a", "a")
    Document.objects.update(file="../../etc/passwd")
    document.refresh_from_db()
    with pytest.raises(InvalidKeyError):
        document.open()


def test_a_row_of_a_profile_that_is_gone_says_which(settings: Any) -> None:
    document = Document.objects.create_text("a", "a")
    settings.KOAN = {"STORAGE": {"PROFILES": {"other": {"STORAGE": "default"}}}}
    with pytest.raises(ProfileError, match="no storage profile 'hot'"):
        document.open()
    settings.KOAN = {"STORAGE": {"PROFILES": {"hot": {"STORAGE": "default", "CONTAINER": "hot"}}}}
    assert document.read_text() == "a"


def test_an_address_is_given_only_where_the_backend_has_one(settings: Any) -> None:
    document = Document.objects.create_text("a b.txt", "a")
    with pytest.raises(CapabilityError, match="have no URL"):
        _ = document.file.url
    assert getattr(document.file, "url", None) is None
    settings.MEDIA_URL = "/media/"
    assert document.file.url == f"/media/hot/{document.key}"


def test_signed_addresses_are_refused_by_name() -> None:
    document = Document.objects.create_text("a", "a")
    with pytest.raises(CapabilityError, match="presigned-get"):
        document.presigned_url()


def test_columns_of_another_model_decide_nothing() -> None:
    invoice = Invoice.objects.create_text("a", "a", number="1")
    archived = ArchivedInvoice.objects.create_text("a", "a", number="1")
    assert (invoice.profile, archived.profile) == ("hot", "cold")
    assert archived.key.startswith("archive/invoices/")


def test_the_public_id_is_another_than_the_key() -> None:
    document = Document.objects.create_text("a", "a")
    assert isinstance(document.pk, int)
    assert Document.objects.get(public_id=document.public_id) == document
    assert document.public_id.hex not in document.key
