"""Objects move verified, and dying between any two steps loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import IntegrityError, transaction

from koan_django.storage import (
    Capability,
    ObjectNotFoundError,
    ProfileError,
    ProfileRefusedError,
    StorageFullError,
    TransferConflictError,
    VerificationError,
    deletion,
    operations,
    profiles,
    transfers,
)
from koan_django.storage.drivers.base import walk
from koan_django.storage.drivers.local import LocalDriver
from koan_django.storage.models import StorageProfile, Tombstone
from koan_django.storage.tasks import purge
from koan_django.testing import override_koan
from tests.storage.models import ArchivedInvoice, Document, Invoice

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def keys(profile: str) -> list[str]:
    return [found.key.removeprefix(f"{profile}/") for found in walk(profiles[profile].driver)]


@pytest.fixture
def invoice() -> Invoice:
    return Invoice.objects.create_bytes("Größe 1.pdf", b"%PDF" * 100_000, number="7")


class Spoiler(LocalDriver):
    """A store that writes something else than it was given, now and then."""

    spoil = False

    def put(self, key: str, *args: Any, **kwargs: Any) -> Any:
        found = super().put(key, *args, **kwargs)
        self._spoil(key)
        return found

    def copy_within(self, source: str, target: str, **kwargs: Any) -> Any:
        found = super().copy_within(source, target, **kwargs)
        self._spoil(target)
        return found

    def _spoil(self, key: str) -> None:
        if self.spoil:
            with open(f"{self.root}/{key}", "r+b") as file:
                file.seek(50)
                file.write(b"!")


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    path = "koan_django.storage.drivers.local.LocalDriver"
    monkeypatch.setattr(path, Spoiler)
    profiles.forget()
    yield lambda: monkeypatch.setattr(Spoiler, "spoil", True)
    profiles.forget()


def test_a_copy_has_its_own_row_and_object_and_keeps_what_is_known(invoice: Invoice) -> None:
    archived = invoice.copy_to(ArchivedInvoice)
    archived.refresh_from_db()
    assert archived.read_bytes() == invoice.read_bytes()
    assert (archived.original_name, archived.content_type) == ("Größe 1.pdf", "application/pdf")
    assert (archived.size, archived.sha256) == (invoice.size, invoice.sha256)
    assert (archived.profile, archived.number) == ("cold", "7")
    assert archived.public_id != invoice.public_id
    assert archived.key.startswith("archive/invoices/")
    assert (keys("hot"), keys("cold")) == ([invoice.key], [archived.key])
    assert not Tombstone.objects.exists()
    invoice.delete()
    assert archived.read_bytes()


def test_what_the_caller_names_comes_first(invoice: Invoice) -> None:
    copy = invoice.copy_to(Invoice, number="8", original_name="copy.pdf")
    assert (copy.number, copy.original_name, copy.read_bytes()) == ("8", "copy.pdf", invoice.read_bytes())


def test_a_move_takes_row_and_object_along(invoice: Invoice) -> None:
    data = invoice.read_bytes()
    archived = invoice.move_to(ArchivedInvoice)
    assert archived.read_bytes() == data
    assert not Invoice.objects.exists()
    assert (keys("hot"), keys("cold")) == ([], [archived.key])
    assert not Tombstone.objects.exists()


def test_a_move_between_profiles_keeps_the_row(invoice: Invoice) -> None:
    before, data = invoice.key, invoice.read_bytes()
    assert invoice.move_to_profile("cold") is True
    assert invoice.move_to_profile("cold") is False
    found = Invoice.objects.get()
    assert (found.pk, found.public_id, found.profile) == (invoice.pk, invoice.public_id, "cold")
    assert (found.key, found.sha256) == (invoice.key, invoice.sha256)
    assert found.key != before  # a key is never used again, so nothing that lags can meet the new object
    assert found.read_bytes() == invoice.read_bytes() == data
    assert (keys("hot"), keys("cold")) == ([], [found.key])
    assert not Tombstone.objects.exists()
    invoice.move_to_profile("hot")
    assert (keys("hot"), keys("cold")) == ([invoice.key], [])


def test_a_reader_with_an_old_row_finds_the_object_after_a_move(invoice: Invoice) -> None:
    stale, with_field = Invoice.objects.get(), Invoice.objects.get()
    invoice.move_to_profile("cold")
    assert stale.read_bytes() == invoice.read_bytes()
    with with_field.file.open() as stream:
        assert stream.read() == invoice.read_bytes()
    assert (stale.profile, stale.key) == ("cold", invoice.key)


def test_an_open_stream_outlives_the_move(invoice: Invoice) -> None:
    data = invoice.read_bytes()
    with invoice.open() as stream:
        head = stream.read(10)
        invoice.move_to_profile("cold")
        assert head + stream.read() == data


@pytest.mark.parametrize("verb", ["copy_to", "move_to", "move_to_profile"])
def test_a_copy_that_is_not_the_same_leaves_the_source_alone(spoiled: Any, verb: str) -> None:
    invoice = Invoice.objects.create_bytes("a.pdf", b"%PDF" * 100_000, number="7")
    spoiled()
    target = "cold" if verb == "move_to_profile" else ArchivedInvoice
    with pytest.raises(VerificationError, match="not the same") as caught:
        getattr(invoice, verb)(target)
    assert caught.value.transient
    assert Invoice.objects.get().read_bytes() == b"%PDF" * 100_000
    assert Invoice.objects.get().profile == "hot"
    assert not ArchivedInvoice.objects.exists()
    assert keys("cold") == []
    assert not Tombstone.objects.exists()


def test_a_server_side_copy_is_verified_as_well(spoiled: Any) -> None:
    invoice = Invoice.objects.create_bytes("a.pdf", b"%PDF" * 100_000, number="7")
    spoiled()
    with pytest.raises(VerificationError):
        invoice.copy_to(Invoice, number="8")
    assert keys("hot") == [invoice.key]


def test_a_source_that_changed_on_its_store_is_not_moved(invoice: Invoice) -> None:
    hot = profiles["hot"]
    with open(f"{hot.driver.root}/{hot.at(invoice.key)}", "r+b") as file:  # type: ignore[attr-defined]
        file.write(b"rot!")
    with pytest.raises(VerificationError):
        invoice.move_to(ArchivedInvoice)
    assert Invoice.objects.exists()
    assert keys("cold") == []


@pytest.mark.parametrize(("target", "server_side"), [("beside", True), ("cold", False)])
def test_copies_within_one_store_stay_in_the_store(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch, target: str, server_side: bool
) -> None:
    calls: list[str] = []
    for name in ("put", "copy_within"):
        original = getattr(LocalDriver, name)
        monkeypatch.setattr(
            LocalDriver, name, lambda *args, _n=name, _o=original, **kwargs: (calls.append(_n), _o(*args, **kwargs))[1]
        )
    with override_koan(STORAGE={"PROFILES": {"beside": {"STORAGE": "default", "CONTAINER": "beside"}}}):
        invoice.move_to_profile(target)
        assert calls == (["copy_within"] if server_side else ["put"])
        assert invoice.read_bytes() == b"%PDF" * 100_000


def test_a_store_that_declares_a_copy_and_refuses_it_is_streamed(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from koan_django.storage.drivers.base import lacks

    def refuse(self: LocalDriver, *_args: Any, **_kwargs: Any) -> Any:
        raise lacks(self, Capability.SERVER_COPY)

    monkeypatch.setattr(LocalDriver, "copy_within", refuse)
    assert invoice.copy_to(Invoice, number="8").read_bytes() == invoice.read_bytes()


def test_a_row_that_is_given_another_file_meanwhile_is_not_overwritten(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = operations.copy

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        found = copy(*args, **kwargs)
        other = Invoice.objects.get()
        other.file = ContentFile(b"newer", name="newer.pdf")
        other.save()
        return found

    monkeypatch.setattr(operations, "copy", meanwhile)
    with pytest.raises(TransferConflictError):
        invoice.move_to_profile("cold")
    assert Invoice.objects.get().read_bytes() == b"newer"
    with pytest.raises((TransferConflictError, ObjectNotFoundError)):
        invoice.move_to(ArchivedInvoice)
    assert Invoice.objects.get().read_bytes() == b"newer"
    assert keys("cold") == []
    assert not ArchivedInvoice.objects.exists()
    assert not Tombstone.objects.exists()


def test_a_row_that_is_deleted_meanwhile_does_not_come_back(invoice: Invoice, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = operations.copy

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        found = copy(*args, **kwargs)
        Invoice.objects.get().delete()
        return found

    monkeypatch.setattr(operations, "copy", meanwhile)
    with pytest.raises(TransferConflictError):
        invoice.move_to(ArchivedInvoice)
    assert not ArchivedInvoice.objects.exists()
    assert keys("hot") == keys("cold") == []


def test_a_row_that_cannot_be_made_leaves_no_copy(invoice: Invoice) -> None:
    with pytest.raises(IntegrityError):
        invoice.copy_to(Invoice, number="7")
    assert keys("hot") == [invoice.key]
    assert not Tombstone.objects.exists()


@pytest.mark.parametrize("step", ["copied", "reserved"])
def test_dying_in_mid_transfer_leaves_the_source_and_a_reservation_that_the_sweep_ends(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Died(BaseException):
        """Nothing catches it, as nothing catches kill -9."""

    def die(*_args: Any, **_kwargs: Any) -> Any:
        raise Died

    if step == "copied":
        monkeypatch.setattr(deletion, "keep", die)
    else:
        monkeypatch.setattr(operations, "copy", die)
    with pytest.raises(Died):
        invoice.move_to_profile("cold")
    assert Invoice.objects.get().read_bytes() == b"%PDF" * 100_000
    assert len(keys("cold")) == (1 if step == "copied" else 0)
    purge()
    assert Tombstone.objects.count() == 1  # the copy may still be on its way
    Tombstone.objects.update(not_before=None)
    purge()
    assert not Tombstone.objects.exists()
    assert keys("cold") == []
    assert keys("hot") == [invoice.key]


def test_a_transfer_that_outlives_its_reservation_does_not_switch(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = operations.copy

    def slow(*args: Any, **kwargs: Any) -> Any:
        found = copy(*args, **kwargs)
        Tombstone.objects.update(not_before=None)
        purge()
        return found

    monkeypatch.setattr(operations, "copy", slow)
    with pytest.raises(TransferConflictError, match="took too long"):
        invoice.move_to_profile("cold")
    assert Invoice.objects.get().read_bytes() == b"%PDF" * 100_000


def test_a_rollback_around_a_move_keeps_the_source(invoice: Invoice) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        invoice.move_to(ArchivedInvoice)
        raise ZeroDivisionError
    assert Invoice.objects.get().read_bytes() == b"%PDF" * 100_000
    assert not ArchivedInvoice.objects.exists()


def test_a_target_that_refuses_or_is_unknown_is_said_before_anything_moves(invoice: Invoice) -> None:
    StorageProfile.objects.filter(name="cold").update(enabled=False)
    with pytest.raises(ProfileRefusedError, match="'cold' refuses: it is disabled"):
        invoice.move_to_profile("cold")
    with pytest.raises(ProfileError, match="'colt'; did you mean 'cold'"):
        invoice.move_to_profile("colt")
    assert keys("cold") == []
    assert not Tombstone.objects.exists()


def test_a_full_target_leaves_the_source(invoice: Invoice, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any, **_kwargs: Any) -> Any:
        raise StorageFullError("no room")

    monkeypatch.setattr(LocalDriver, "put", full)
    with pytest.raises(StorageFullError):
        invoice.move_to(ArchivedInvoice)
    assert Invoice.objects.get().read_bytes() == b"%PDF" * 100_000
    assert not Tombstone.objects.exists()


def test_a_row_without_an_object_cannot_move() -> None:
    document = Document.objects.create(title="empty")
    with pytest.raises(ObjectNotFoundError, match="has no stored object"):
        transfers.transfer(document, "cold")


def test_a_copy_of_a_row_without_a_hash_is_compared_with_its_source(invoice: Invoice) -> None:
    Invoice.objects.update(sha256="")
    invoice.refresh_from_db()
    archived = invoice.copy_to(ArchivedInvoice)
    assert archived.sha256 == archived.file.profile.driver.checksum(archived.file.profile.at(archived.key))
