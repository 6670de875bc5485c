"""The ``a`` twins do what their namesakes do."""

from __future__ import annotations

import asyncio
import io

import pytest
from asgiref.sync import async_to_sync

from koan_django.storage import StorageFullError, profiles
from koan_django.storage.storedfile import StoredFile
from tests.storage.models import ArchivedInvoice, Customer, Document, Invoice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_every_verb_has_a_twin() -> None:
    verbs = ("open", "open_range", "read_bytes", "read_text", "head", "exists", "copy_to", "move_to", "move_to_profile")
    for verb in verbs:
        assert asyncio.iscoroutinefunction(getattr(StoredFile, f"a{verb}"))
    for verb in ("create_bytes", "create_text", "create_json", "upload"):
        assert asyncio.iscoroutinefunction(getattr(Invoice.objects, f"a{verb}"))


@async_to_sync
async def _walk() -> None:
    invoice = await Invoice.objects.acreate_text("a.txt", "hello", number="1")
    assert await invoice.aread_text() == "hello"
    assert await invoice.aread_bytes() == b"hello"
    with await invoice.aopen() as stream:
        assert stream.read() == b"hello"
    with await invoice.aopen_range(1, 2) as found:
        assert found.read() == b"el"
    assert (await invoice.ahead()).size == 5
    assert await invoice.aexists()
    copy = await invoice.acopy_to(ArchivedInvoice)
    assert await copy.aread_text() == "hello"
    await copy.adelete()
    assert await invoice.amove_to_profile("cold")
    moved = await invoice.amove_to(ArchivedInvoice)
    assert await moved.aread_text() == "hello"
    assert not await Invoice.objects.aexists()


def test_the_whole_life_of_an_object() -> None:
    _walk()
    assert not profiles["hot"].driver.list().objects


@async_to_sync
async def _many() -> list[str]:
    customer = await Customer.objects.acreate(name="A")
    made = await asyncio.gather(
        customer.documents.aupload(io.BytesIO(b"0"), name="0"),
        customer.documents.acreate_bytes("1", b"1"),
        customer.documents.acreate_json("2", 2),
    )
    return list(await asyncio.gather(*(document.aread_text() for document in made)))


def test_related_managers_and_several_at_once() -> None:
    assert _many() == ["0", "1", "2"]
    assert Document.objects.filter(customer__name="A").count() == 3


def test_errors_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    from koan_django.storage.drivers.local import LocalDriver

    def full(*_args: object, **_kwargs: object) -> None:
        raise StorageFullError("no room")

    monkeypatch.setattr(LocalDriver, "put", full)
    with pytest.raises(StorageFullError):
        async_to_sync(Document.objects.acreate_text)("a", "a")
