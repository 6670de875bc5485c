"""What type checkers say about stored files; checked by ``test_typing.py``."""

from __future__ import annotations

from typing import BinaryIO, assert_type

from koan_django.storage import Capability, PresignedUpload, ProfileStorage, profiles
from koan_django.storage.drivers.base import ObjectStat
from koan_django.storage.fieldfile import StoredFieldFile
from koan_django.storage.profile import Profile
from koan_django.storage.streams import StoredRange
from tests.storage.models import ArchivedInvoice, Customer, Document, Invoice

invoice = Invoice.objects.create_text("a.txt", "a", number="1")
assert_type(invoice, Invoice)
assert_type(Invoice.objects.create_bytes("a", b"a"), Invoice)
assert_type(Invoice.objects.create_json("a", [1]), Invoice)
assert_type(Invoice.objects.filter(size=1).first(), Invoice | None)
assert_type(invoice.open(), BinaryIO)
assert_type(invoice.open_range(0, 9), StoredRange)
assert_type(invoice.read_text(), str)
assert_type(invoice.read_bytes(), bytes)
assert_type(invoice.head(), ObjectStat)
assert_type(invoice.copy_to(ArchivedInvoice), ArchivedInvoice)
assert_type(invoice.move_to(ArchivedInvoice), ArchivedInvoice)
assert_type(invoice.move_to_profile("cold"), bool)
assert_type(invoice.presigned_url(as_attachment=True), str)
assert_type(Invoice.presigned_upload("a.txt", size=1), PresignedUpload)
assert_type(Invoice.objects.from_upload("token", number="1"), Invoice)
assert_type(invoice.size, int)
assert_type(invoice.key, str)
assert_type(invoice.file, StoredFieldFile)
assert_type(Customer().avatar, StoredFieldFile)
assert_type(profiles["hot"], Profile)
assert_type(profiles["hot"].capabilities, frozenset[Capability])
ProfileStorage(profile="hot")


async def twins() -> None:
    made = await Invoice.objects.acreate_text("a.txt", "a", number="1")
    assert_type(made, Invoice)
    assert_type(await made.aread_text(), str)
    assert_type(await made.acopy_to(ArchivedInvoice), ArchivedInvoice)


Invoice.objects.create_text("a.txt", b"a")  # type: ignore[arg-type]
Invoice.objects.create_bytes("a.txt", "a")  # type: ignore[arg-type]
invoice.copy_to(Customer)  # type: ignore[type-var]
invoice.open_range("0")  # type: ignore[arg-type]


class Letter(Document):
    class Storage:
        profile = "cold"
