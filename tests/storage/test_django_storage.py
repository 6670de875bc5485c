"""``ProfileStorage``: a profile for Django's ``STORAGES`` and for plain file fields."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import models
from django.test.utils import isolate_apps

from koan_django.storage import ProfileStorage, profiles

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def storage(settings: Any) -> Any:
    settings.STORAGES = {
        **settings.STORAGES,
        "documents": {"BACKEND": "koan_django.storage.ProfileStorage", "OPTIONS": {"profile": "cold"}},
    }
    return storages["documents"]


def test_it_does_what_django_asks_of_a_storage(storage: Any, stores: Any) -> None:
    name = storage.save("a/b.txt", ContentFile(b"hello"))
    assert name == "a/b.txt"
    assert (stores / "archive/cold/a/b.txt").read_bytes() == b"hello"
    with storage.open(name) as file:
        assert file.read() == b"hello"
        assert file.size == 5
    assert storage.exists(name)
    assert storage.size(name) == 5
    assert storage.path(name) == str(stores / "archive/cold/a/b.txt")
    assert storage.get_modified_time(name).tzinfo is not None
    storage.save("a/c/d.txt", ContentFile(b""))
    assert storage.listdir("a") == (["c"], ["b.txt"])
    assert storage.listdir("") == (["a"], [])
    storage.delete(name)
    assert not storage.exists(name)
    storage.delete(name)
    with pytest.raises(FileNotFoundError):
        storage.open(name)


def test_times_are_naive_without_time_zones(storage: Any, settings: Any) -> None:
    storage.save("a", ContentFile(b""))
    settings.USE_TZ = False
    assert storage.get_modified_time("a").tzinfo is None


def test_a_name_in_use_gets_another(storage: Any) -> None:
    first, second = storage.save("a.txt", ContentFile(b"1")), storage.save("a.txt", ContentFile(b"2"))
    assert first != second
    with storage.open(first) as one, storage.open(second) as two:
        assert (one.read(), two.read()) == (b"1", b"2")


@pytest.mark.django_db(transaction=True)
def test_savers_of_one_name_at_once_all_keep_their_bytes(storage: Any) -> None:
    from django.db import connection

    start = threading.Barrier(6)
    names: dict[str, bytes] = {}

    def save(number: int) -> None:
        start.wait()
        data = b"%d" % number
        names[storage.save("same.txt", ContentFile(data))] = data
        connection.close()

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 6
    for name, data in names.items():
        with storage.open(name) as file:
            assert file.read() == data


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_names_that_lead_out_are_refused(storage: Any, name: str) -> None:
    from django.core.exceptions import SuspiciousFileOperation

    with pytest.raises(SuspiciousFileOperation):
        storage.save(name, ContentFile(b"x"))
    with pytest.raises(SuspiciousFileOperation):
        storage.open(name)


@isolate_apps("tests.storage")
def test_a_plain_file_field_on_it_and_its_migration() -> None:
    class Plain(models.Model):
        file = models.FileField(upload_to="plain/", storage=ProfileStorage(profile="cold"))

    row = Plain()
    row.file.save("a b.txt", ContentFile(b"x"), save=False)
    assert row.file.name == "plain/a_b.txt"
    assert profiles["cold"].driver.exists("cold/plain/a_b.txt")
    storage = Plain._meta.get_field("file").deconstruct()[3]["storage"]
    assert storage.deconstruct() == ("koan_django.storage.ProfileStorage", (), {"profile": "cold"})


def test_it_reads_no_settings_before_it_is_used() -> None:
    storage = ProfileStorage("not there yet")
    with pytest.raises(Exception, match="no storage profile 'not there yet'"):
        storage.exists("a")
