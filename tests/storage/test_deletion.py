"""Bytes go when no row needs them: after the commit, by tombstone, and never while a row names them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, transaction

from koan_django.storage import deletion, profiles
from koan_django.storage.exceptions import ProfileRefusedError
from koan_django.storage.models import StorageProfile, Tombstone
from koan_django.storage.tasks import purge, sweep
from tests.storage.models import Customer, Document, DraftInvoice, Invoice, Scan

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def stored(key: str, profile: str = "hot") -> bool:
    return profiles[profile].driver.exists(profiles[profile].at(key))


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs after the commit, as when the process dies then."""
    monkeypatch.setattr(deletion, "_dispatch", lambda pk, using: None)


def test_deleting_a_row_removes_its_object_and_the_tombstone() -> None:
    document = Document.objects.create_text("a", "a")
    assert document.delete() == (1, {"storage.Document": 1})
    assert not stored(document.key)
    assert not Tombstone.objects.exists()


def test_a_rollback_keeps_row_and_object() -> None:
    document = Document.objects.create_text("a", "a")
    pk, key = document.pk, document.key
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        document.delete()
        assert stored(key)  # until the commit at least
        raise ZeroDivisionError
    assert Document.objects.get(pk=pk).read_text() == "a"
    assert not Tombstone.objects.exists()


def test_a_rolled_back_savepoint_keeps_the_object_and_the_rest_goes() -> None:
    kept, gone = Document.objects.create_text("a", "a"), Document.objects.create_text("b", "b")
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Document.objects.filter(pk=kept.pk).delete()
            raise ZeroDivisionError
        Document.objects.filter(pk=gone.pk).delete()
    assert stored(kept.key)
    assert not stored(gone.key)


@pytest.mark.parametrize("only", [False, True])
def test_a_queryset_removes_the_objects_of_all_its_rows(only: bool) -> None:
    keys = [Document.objects.create_text(name, name).key for name in "abc"]
    rows = Document.objects.only("pk") if only else Document.objects.all()
    rows.delete()
    assert not any(map(stored, keys))


def test_a_cascade_removes_objects_on_both_sides() -> None:
    customer = Customer.objects.create(name="A", avatar=ContentFile(b"png", name="a.png"))
    document = customer.documents.create_text("a", "a")
    Customer.objects.all().delete()
    assert not stored(document.key)
    assert not stored(customer.avatar.name)


def test_a_proxy_removes_the_object() -> None:
    key = DraftInvoice.objects.create_text("a", "a", number="1").key
    DraftInvoice.objects.all().delete()
    assert not stored(key)


@pytest.mark.parametrize("through", [Scan, Invoice])
def test_a_child_and_its_parent_leave_one_tombstone(nobody: None, through: Any) -> None:
    key = Scan.objects.create_text("a", "a", number="1").key
    through.objects.get().delete()
    assert [found.key for found in Tombstone.objects.all()] == [key]
    assert not Scan.objects.exists()
    assert not Invoice.objects.exists()


def test_the_tombstone_says_what_is_to_go_and_why(nobody: None) -> None:
    document = Document.objects.create_text("a", "abc")
    document.delete()
    found = Tombstone.objects.get()
    assert (found.profile, found.key, found.size, found.sha256) == ("hot", document.key, 3, document.sha256)
    assert found.origin == "storage.Document.file"
    assert (found.attempts, found.last_error, found.not_before) == (0, "", None)


def test_the_sweep_finishes_what_a_crash_left(nobody: None) -> None:
    keys = [Document.objects.create_text(name, name).key for name in "abc"]
    Document.objects.all().delete()
    assert all(map(stored, keys))
    purge()
    assert not any(map(stored, keys))
    assert not Tombstone.objects.exists()
    purge()


def test_removing_what_is_gone_already_settles_the_tombstone(nobody: None) -> None:
    document = Document.objects.create_text("a", "a")
    document.delete()
    profiles["hot"].driver.delete(profiles["hot"].at(document.key))
    purge(Tombstone.objects.get().pk)
    assert not Tombstone.objects.exists()
    purge(123456)


def test_an_object_that_a_row_names_again_is_kept(nobody: None) -> None:
    document = Document.objects.create_text("a", "a")
    document.delete()
    document.pk = None
    document.save()
    purge()
    assert not Tombstone.objects.exists()
    assert Document.objects.get().read_text() == "a"


def test_an_object_that_a_row_of_another_model_names_is_kept(nobody: None) -> None:
    document = Document.objects.create_text("a", "a")
    customer = Customer.objects.create(name="A", avatar=document.key)
    document.delete()
    purge()
    with customer.avatar.open() as stream:
        assert stream.read() == b"a"
    customer.delete()
    purge()
    assert not stored(document.key)


def test_the_same_key_in_another_profile_keeps_nothing(nobody: None) -> None:
    document = Document.objects.create_text("a", "a")
    other = Document.objects.create(file=document.key, profile="cold")
    document.delete()
    purge()
    assert not stored(document.key)
    assert Document.objects.get() == other


def test_deleting_and_saving_again_in_one_transaction_keeps_the_object() -> None:
    document = Document.objects.create_text("a", "a")
    with transaction.atomic():
        document.delete()
        document.pk = None
        document.save()
    assert Document.objects.get().read_text() == "a"


def test_a_failure_is_kept_and_tried_again_later(stores: Any, nobody: None) -> None:
    document = Document.objects.create_text("a", "a")
    document.delete()
    StorageProfile.objects.filter(name="hot").update(read_only=True, note="moving house")
    pk = Tombstone.objects.get().pk
    with pytest.raises(ProfileRefusedError):
        purge(pk)
    found = Tombstone.objects.get()
    assert found.attempts == 1
    assert "moving house" in found.last_error
    assert found.not_before is not None
    StorageProfile.objects.update(read_only=False)
    purge(pk)
    assert stored(document.key)  # it waits for its turn
    deletion.purge_now(found)
    assert not stored(document.key)
    assert not Tombstone.objects.exists()


def test_one_that_fails_does_not_stop_the_others(nobody: None) -> None:
    keys = [Document.objects.create_text(name, name).key for name in "ab"]
    Document.objects.all().delete()
    Tombstone.objects.filter(key=keys[0]).update(profile="gone")
    purge()
    left = Tombstone.objects.get()
    assert left.key == keys[0]
    assert "no storage profile 'gone'" in left.last_error
    assert not stored(keys[1])


def test_only_one_of_two_processes_works_on_a_tombstone(nobody: None) -> None:
    Document.objects.create_text("a", "a").delete()
    pk = Tombstone.objects.get().pk
    assert Tombstone.objects.claim(pk, deletion.LEASE) is not None
    assert Tombstone.objects.claim(pk, deletion.LEASE) is None
    assert not deletion.purge(pk)


def test_replacing_a_file_removes_the_old_object() -> None:
    document = Document.objects.create_text("a", "old")
    key = document.key
    document.file = ContentFile(b"new", name="b")
    document.save()
    assert not stored(key)
    assert Document.objects.get().read_bytes() == b"new"
    assert not Tombstone.objects.exists()


def test_replacing_in_a_transaction_that_rolls_back_keeps_the_old_object() -> None:
    document = Document.objects.create_text("a", "old")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        document.file = ContentFile(b"new", name="b")
        document.save()
        raise ZeroDivisionError
    assert Document.objects.get().read_text() == "old"


def test_replacing_what_another_process_replaced_removes_that(nobody: None) -> None:
    document = Document.objects.create_text("a", "first")
    stale = Document.objects.get()
    document.file = ContentFile(b"second", name="b")
    document.save()
    second = document.key
    stale.file = ContentFile(b"third", name="c")
    stale.save()
    purge()
    assert not stored(second)
    assert Document.objects.get().read_bytes() == b"third"


def test_many_who_replace_at_once_leave_one_object(files: Any) -> None:
    pk = Document.objects.create_text("a", "first").pk
    start = threading.Barrier(4)

    def replace(number: int) -> None:
        try:
            document = Document.objects.get(pk=pk)
            start.wait()
            for turn in range(3):
                document.file = ContentFile(b"%d-%d" % (number, turn), name="b")
                document.save()
        finally:
            connection.close()

    threads = [threading.Thread(target=replace, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    document = Document.objects.get()
    assert document.read_text().endswith("-2")
    assert files() == [f"media/hot/{document.key}"]
    assert not Tombstone.objects.exists()


def test_replacing_the_file_of_any_model_removes_the_old_object() -> None:
    customer = Customer.objects.create(name="A", avatar=ContentFile(b"png", name="a.png"))
    key = customer.avatar.name
    customer.avatar = ContentFile(b"gif", name="a.gif")
    customer.save()
    assert not stored(key)
    assert stored(customer.avatar.name)


def test_saving_other_fields_keeps_the_object_until_the_file_is_saved() -> None:
    customer = Customer.objects.create(name="A", avatar=ContentFile(b"png", name="a.png"))
    key = customer.avatar.name
    customer.avatar = ContentFile(b"gif", name="a.gif")
    customer.name = "B"
    customer.save(update_fields=["name"])
    assert stored(key)
    customer.save()
    assert not stored(key)


@pytest.mark.parametrize("save", [True, False])
def test_emptying_the_field_removes_the_object_with_the_save(save: bool) -> None:
    document = Document.objects.create_text("a", "a")
    key = document.key
    document.file.delete(save=save)
    assert stored(key) is not save
    document.save()
    assert not stored(key)
    found = Document.objects.get()
    assert (found.key, found.size, found.sha256, found.profile) == ("", 0, "", "")


def test_saving_a_row_again_removes_nothing() -> None:
    document = Document.objects.create_text("a", "a")
    document.title = "new"
    document.save()
    document.refresh_from_db()
    document.save()
    document.file = document.key
    document.save()
    assert Document.objects.get().read_text() == "a"
    assert not Tombstone.objects.exists()


def test_models_without_stored_files_keep_their_fast_delete() -> None:
    from django.contrib.auth.models import Group
    from django.db.models.signals import post_delete, pre_delete

    assert not post_delete.has_listeners(Group)
    assert not pre_delete.has_listeners(Group)


def test_the_daily_sweep_removes_broken_off_writes(stores: Any) -> None:
    import os

    Document.objects.create_text("a", "a")
    left = stores / "media/hot/.koan-left"
    left.write_text("half")
    sweep()
    assert left.exists()
    os.utime(left, (0, 0))
    sweep()
    assert not left.exists()
    assert connection.is_usable()
