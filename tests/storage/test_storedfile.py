"""A row and its object: create, read, copy, move, delete."""

from __future__ import annotations

import hashlib
import io

import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile

from koan_django.storage import ObjectNotFoundError, profiles
from koan_django.storage.models import Tombstone
from tests.storage.models import ArchivedInvoice, Customer, Document, Invoice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_text_is_stored_described_and_read_back() -> None:
    invoice = Invoice.objects.create_text("Rechnung 1 Größe.json", '{"a": "ä"}', number="1")
    invoice.refresh_from_db()
    assert invoice.read_text() == '{"a": "ä"}'
    assert invoice.sha256 == hashlib.sha256('{"a": "ä"}'.encode()).hexdigest()
    assert (invoice.size, invoice.content_type, invoice.profile) == (11, "application/json", "hot")
    assert invoice.original_name == "Rechnung 1 Größe.json"
    assert invoice.key.startswith("invoices/")
    assert invoice.head().size == 11


def test_move_and_delete() -> None:
    invoice = Invoice.objects.create_bytes("a.bin", b"123456", number="2")
    hot, key = profiles["hot"], invoice.key
    archived = invoice.move_to(ArchivedInvoice)
    assert archived.number == "2"
    assert archived.profile == "cold"
    assert archived.read_bytes() == b"123456"
    assert not Invoice.objects.exists()
    assert not hot.driver.exists(hot.at(key))
    assert not Tombstone.objects.exists()


def test_transfer() -> None:
    invoice = Invoice.objects.upload(SimpleUploadedFile("x.txt", b"abc", "text/plain"), number="3")
    stale = Invoice.objects.get()
    old = invoice.key
    assert invoice.move_to_profile("cold")
    assert not invoice.move_to_profile("cold")
    assert invoice.read_bytes() == b"abc"
    assert stale.read_bytes() == b"abc"
    assert Invoice.objects.get().profile == "cold"
    assert not profiles["hot"].driver.exists("hot/" + old)
    assert not Tombstone.objects.exists()


def test_related_manager() -> None:
    customer = Customer.objects.create(name="A", avatar=ContentFile(b"png", name="a.png"))
    document = customer.documents.create_text("a.txt", "A")
    assert document.customer == customer
    assert document.key.startswith("storage/document/")
    key = customer.avatar.name
    customer.avatar = ContentFile(b"gif", name="a.gif")
    customer.save()
    with customer.avatar.open() as stream:
        assert stream.read() == b"gif"
    assert not profiles["hot"].driver.exists(f"hot/{key}")
    customer.delete()
    with pytest.raises(ObjectNotFoundError):
        document.open()
    assert not Document.objects.exists()


def test_replace() -> None:
    document = Document.objects.upload(io.BytesIO(b"one"), name="one")
    document.file = ContentFile(b"three", name="three")
    document.save(update_fields=["file"])
    document.refresh_from_db()
    assert (document.size, document.read_bytes()) == (5, b"three")
    assert not Tombstone.objects.exists()
