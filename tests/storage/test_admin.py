"""Storage in the admin: who may see, who may act, and what the pages show."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from koan_django.storage import profiles
from koan_django.storage.models import StorageProfile, Tombstone
from tests.storage.models import Customer, Document

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

PROFILES = "admin:koan_storage_storageprofile"
TOMBSTONES = "admin:koan_storage_tombstone"
DOCUMENTS = "admin:storage_document"


@pytest.fixture
def staff(client: Any) -> Any:
    """Return a function that logs somebody in with permissions such as ``view_tombstone``."""

    def login(*codenames: str) -> Any:
        user = User.objects.create_user("staff", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return login


@pytest.fixture
def boss(client: Any) -> Any:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def waiting() -> Tombstone:
    """A tombstone whose first attempt failed."""
    document = Document.objects.create_text("a", "a")
    StorageProfile.objects.update(read_only=True)
    document.delete()
    StorageProfile.objects.update(read_only=False)
    return Tombstone.objects.get()


def stored(tombstone: Tombstone) -> bool:
    return profiles["hot"].driver.exists(f"hot/{tombstone.key}")


def purge(client: Any, tombstone: Tombstone, **data: str) -> Any:
    return client.post(
        reverse(f"{TOMBSTONES}_changelist"), {"action": "purge", "_selected_action": tombstone.pk, **data}, follow=True
    )


def test_profiles_are_shown_with_state_and_settings(boss: Any, waiting: Tombstone) -> None:
    StorageProfile.objects.create(name="old", alias="gone", backend="x", driver="y", is_configured=False)
    listed = boss.get(reverse(f"{PROFILES}_changelist")).content.decode()
    assert "missing in the settings" in listed
    page = boss.get(reverse(f"{PROFILES}_change", args=[StorageProfile.objects.get(name="hot").pk])).content.decode()
    assert "atomic-replace, exclusive-create, list, ordered-list, range, server-copy" in page
    assert f"{reverse(f'{TOMBSTONES}_changelist')}?profile__exact=hot" in page
    assert "FileSystemStorage" in page
    gone = boss.get(reverse(f"{PROFILES}_change", args=[StorageProfile.objects.get(name="old").pk])).content.decode()
    assert "there is no storage profile" in gone


def test_policy_is_edited_and_nothing_else(boss: Any) -> None:
    row = StorageProfile.objects.get(name="cold")
    url = reverse(f"{PROFILES}_change", args=[row.pk])
    answer = boss.post(url, {"read_only": "on", "note": "frozen", "name": "x", "container": "x", "alias": "x"})
    assert answer.status_code == 302
    row.refresh_from_db()
    assert (row.enabled, row.read_only, row.note) == (False, True, "frozen")
    assert (row.name, row.container, row.alias) == ("cold", "cold", "archive")
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("verb", ["add", "delete"])
def test_profiles_are_neither_added_nor_deleted(boss: Any, verb: str) -> None:
    arguments = [] if verb == "add" else [StorageProfile.objects.get(name="cold").pk]
    assert boss.get(reverse(f"{PROFILES}_{verb}", args=arguments)).status_code == 403


def test_whoever_may_only_look_changes_no_policy(staff: Any) -> None:
    client = staff("view_storageprofile")
    row = StorageProfile.objects.get(name="cold")
    url = reverse(f"{PROFILES}_change", args=[row.pk])
    assert client.get(url).status_code == 200
    assert client.post(url, {"read_only": "on"}).status_code == 403
    row.refresh_from_db()
    assert not row.read_only


def test_tombstones_are_read_only_records(boss: Any, waiting: Tombstone) -> None:
    page = boss.get(reverse(f"{TOMBSTONES}_change", args=[waiting.pk])).content.decode()
    assert "storage.Document.file" in page
    assert "read-only" in page  # the error of the first attempt
    assert "_save" not in page
    for verb in ("add", "delete"):
        arguments = [] if verb == "add" else [waiting.pk]
        assert boss.get(reverse(f"{TOMBSTONES}_{verb}", args=arguments)).status_code == 403


def test_purging_asks_first_and_then_removes(boss: Any, waiting: Tombstone) -> None:
    asked = purge(boss, waiting).content.decode()
    assert "cannot be undone" in asked
    assert stored(waiting)
    done = purge(boss, waiting, confirmed="yes").content.decode()
    assert "1 done" in done
    assert not stored(waiting)
    assert not Tombstone.objects.exists()
    assert f"removed hot: {waiting.key}" in LogEntry.objects.get().change_message


def test_purging_that_is_refused_says_why(boss: Any, waiting: Tombstone) -> None:
    StorageProfile.objects.update(read_only=True, note="moving")
    done = purge(boss, waiting, confirmed="yes").content.decode()
    assert "note: moving" in done
    assert stored(waiting)
    assert not LogEntry.objects.exists()


def test_purging_needs_its_permission(staff: Any, waiting: Tombstone) -> None:
    client = staff("view_tombstone")
    assert "Remove selected objects now" not in client.get(reverse(f"{TOMBSTONES}_changelist")).content.decode()
    purge(client, waiting, confirmed="yes")
    assert stored(waiting)


def test_purging_is_open_to_those_who_hold_it(staff: Any, waiting: Tombstone) -> None:
    purge(staff("view_tombstone", "purge_tombstone"), waiting, confirmed="yes")
    assert not stored(waiting)


def test_a_file_is_added_changed_and_deleted_in_the_admin(boss: Any) -> None:
    def upload(name: str, data: bytes) -> dict[str, Any]:
        return {"title": "t", "file": SimpleUploadedFile(name, data, "text/plain")}

    assert boss.get(reverse(f"{DOCUMENTS}_add")).status_code == 200
    assert boss.post(reverse(f"{DOCUMENTS}_add"), upload("a b.txt", b"one")).status_code == 302
    document = Document.objects.get()
    assert (document.original_name, document.read_bytes()) == ("a b.txt", b"one")
    url = reverse(f"{DOCUMENTS}_change", args=[document.pk])
    page = boss.get(url).content.decode()
    assert document.sha256 in page
    assert "have no URL" in page
    assert boss.post(url, {"title": "kept"}).status_code == 302
    assert Document.objects.get().read_bytes() == b"one"
    assert boss.post(url, upload("b.txt", b"three")).status_code == 302
    replaced = Document.objects.get()
    assert (replaced.read_bytes(), replaced.size) == (b"three", 5)
    assert not profiles["hot"].driver.exists(f"hot/{document.key}")
    data = {"action": "delete_selected", "_selected_action": document.pk, "post": "yes"}
    boss.post(reverse(f"{DOCUMENTS}_changelist"), data)
    assert not profiles["hot"].driver.list().objects


def test_an_address_is_linked_where_there_is_one(boss: Any, settings: Any) -> None:
    settings.MEDIA_URL = "/media/"
    document = Document.objects.create_text("a.txt", "a")
    page = boss.get(reverse(f"{DOCUMENTS}_change", args=[document.pk])).content.decode()
    assert f'<a href="/media/hot/{document.key}">' in page
    listed = boss.get(reverse(f"{DOCUMENTS}_changelist"), {"q": "a.txt"}).content.decode()
    assert "1 byte" in listed.replace("\xa0", " ")


def test_a_plain_admin_of_a_model_with_the_field_works(boss: Any) -> None:
    url = reverse("admin:storage_customer_add")
    boss.post(url, {"name": "A", "avatar": SimpleUploadedFile("a.png", b"png", "image/png")})
    customer = Customer.objects.get()
    change = reverse("admin:storage_customer_change", args=[customer.pk])
    assert boss.get(change).status_code == 200
    assert boss.post(change, {"name": "B"}).status_code == 302
    with Customer.objects.get(name="B").avatar.open() as stream:
        assert stream.read() == b"png"


def test_the_overview_shows_storage(boss: Any) -> None:
    page = boss.get(reverse("admin:koan_core_overview_changelist")).content.decode()
    assert "objects to remove" in page
