"""Storage in the audit: moves, copies and deletions of objects, their end, and changes of a profile's policy."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from koan_django.core.context import correlation
from koan_django.core.models import AuditEvent
from koan_django.storage import deletion
from koan_django.storage.models import StorageProfile, Tombstone
from koan_django.storage.sync import sync
from tests.storage.models import ArchivedInvoice, Invoice

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def recorded() -> list[str]:
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


@pytest.fixture
def invoice() -> Invoice:
    return Invoice.objects.create_text("a.txt", "abc", number="1")


def test_a_move_to_another_profile_is_one_event_with_both_places(invoice: Invoice) -> None:
    key = invoice.key
    with correlation.use("story-1"):
        invoice.move_to_profile("cold")
    event = AuditEvent.objects.get()
    assert (event.action, event.object_type, event.object_id) == ("storage.move", "storage.invoice", str(invoice.pk))
    assert event.data["from"] == {"profile": "hot", "key": key}
    assert event.data["to"] == {"profile": "cold", "key": invoice.key}
    assert (event.data["sha256"], event.correlation_id) == (invoice.sha256, "story-1")


def test_a_copy_is_one_and_a_move_to_another_model_also_deletes(invoice: Invoice) -> None:
    invoice.copy_to(ArchivedInvoice, number="2")
    assert recorded() == ["storage.copy"]
    invoice.move_to(ArchivedInvoice)
    assert recorded() == ["storage.copy", "storage.move", "storage.delete"]


def test_a_deletion_is_told_when_it_is_decided_and_when_the_bytes_are_gone(invoice: Invoice) -> None:
    key = invoice.key
    with correlation.use("story-1"):
        invoice.delete()
    with correlation.use("a-sweep"):
        deletion.purge_due()
    decided, done = AuditEvent.objects.order_by("id")
    assert (decided.action, decided.data["key"]) == ("storage.delete", key)
    assert (done.action, done.data["key"], done.data["existed"]) == ("storage.purge", key, True)
    assert {decided.correlation_id, done.correlation_id} == {"story-1"}, "the sweep works for the one who deleted"
    assert not Tombstone.objects.exists()


def test_a_deletion_that_is_rolled_back_was_none(invoice: Invoice) -> None:
    with transaction.atomic():
        invoice.delete()
        transaction.set_rollback(True)
    assert recorded() == []


def test_a_row_that_is_given_another_file_deletes_the_old_one(invoice: Invoice) -> None:
    from django.core.files.base import ContentFile

    key = invoice.key
    invoice.file = ContentFile(b"new", name="b.txt")
    invoice.save()
    assert AuditEvent.objects.get(action="storage.delete").data["key"] == key


class TestPolicy:
    @pytest.fixture
    def profile(self) -> StorageProfile:
        sync()
        return StorageProfile.objects.get(name="hot")

    def test_a_change_in_the_admin_says_what_was_and_what_is(self, admin_client: Client, profile: Any) -> None:
        address = f"/admin/koan_storage/storageprofile/{profile.pk}/change/"
        admin_client.post(address, {"enabled": "on", "read_only": "on", "note": "moving"})
        event = AuditEvent.objects.get(action="storage.policy")
        assert event.data == {"read_only": {"from": False, "to": True}, "note": {"from": "", "to": "moving"}}
        assert (event.actor, event.object_text) == ("admin", "hot")
        assert AuditEvent.objects.filter(action="admin.change").count() == 1

    def test_one_by_code_too_and_a_sync_of_the_settings_is_none(self, profile: StorageProfile) -> None:
        profile.enabled = False
        profile.save()
        assert recorded() == ["storage.policy"]
        sync()
        assert recorded() == ["storage.policy"]
