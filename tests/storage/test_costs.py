"""What each verb costs, in queries and in calls of the store; and what it tells telemetry."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile

from koan_django.core.context import correlation
from koan_django.storage import deletion
from koan_django.storage.drivers.local import LocalDriver
from koan_django.storage.models import Tombstone
from tests.storage.models import ArchivedInvoice, Customer, Document, Invoice

pytestmark = [pytest.mark.django_db, pytest.mark.database]

VERBS = ("put", "open", "open_range", "stat", "exists", "delete", "copy_within", "checksum", "list", "probe")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def watch(name: str) -> None:
        original = getattr(LocalDriver, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(LocalDriver, name, called)

    for name in VERBS:
        watch(name)
    return seen


def test_creating_asks_the_policy_inserts_the_row_and_writes_once(
    calls: list[str], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        document = Document.objects.create_text("a.txt", "a")
    assert calls == ["put"]
    assert document.file.size == 1  # from the row
    assert calls == ["put"]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda d: d.read_bytes(), ["open"]),
        (lambda d: d.open_range(0, 0).close(), ["open_range"]),
        (lambda d: d.head(), ["stat"]),
        (lambda d: d.file.open().close(), ["open"]),
    ],
)
def test_reading_asks_the_store_once_and_no_database(
    calls: list[str], django_assert_num_queries: Any, read: Any, expected: list[str]
) -> None:
    Document.objects.create_text("a.txt", "a")
    document = Document.objects.get()
    calls.clear()
    with django_assert_num_queries(0):
        read(document)
    assert calls == expected


def test_saving_a_row_without_a_new_file_asks_nothing_more(calls: list[str], django_assert_num_queries: Any) -> None:
    Document.objects.create_text("a.txt", "a")
    document = Document.objects.get()
    document.title = "b"
    calls.clear()
    with django_assert_num_queries(1):
        document.save()
    assert calls == []


def test_deleting_writes_a_tombstone_and_an_event_and_touches_no_store_before_the_commit(
    calls: list[str], django_assert_num_queries: Any, django_capture_on_commit_callbacks: Any
) -> None:
    Document.objects.create_text("a.txt", "a")
    document = Document.objects.get()
    calls.clear()
    with django_capture_on_commit_callbacks() as callbacks, django_assert_num_queries(3):
        document.delete()
    assert calls == []
    assert len(callbacks) == 1


def test_purging_names_each_model_once(calls: list[str], django_assert_max_num_queries: Any) -> None:
    Document.objects.create_text("a.txt", "a").delete()
    calls.clear()
    with django_assert_max_num_queries(12):  # claim, read, one per table with files, policy, event, end
        deletion.purge(Tombstone.objects.get().pk)
    assert calls.count("delete") == 1


def test_moving_between_stores_reads_the_source_once_and_the_copy_once(calls: list[str]) -> None:
    invoice = Invoice.objects.create_text("a.txt", "a", number="1")
    calls.clear()
    invoice.move_to_profile("cold")
    assert calls == ["open", "put", "checksum", "open"]  # the last two: the copy is read back


def test_each_operation_is_a_span(events: list[Any]) -> None:
    customer = Customer.objects.create(name="A", avatar=ContentFile(b"12345", name="a.png"))
    invoice = Invoice.objects.create_text("a.txt", "a", number="1")
    invoice.read_text()
    archived = invoice.copy_to(ArchivedInvoice)
    archived.delete()
    deletion.purge_due()
    ended = [event for event in events if event.phase == "stop"]
    assert [event.name for event in ended] == [
        "storage.put",
        "storage.put",
        "storage.get",
        "storage.copy",
        "storage.delete",
    ]
    assert ended[0].metadata == {"profile": "hot", "key": customer.avatar.name, "size": 5}
    assert (ended[3].metadata["profile"], ended[3].metadata["to_profile"]) == ("hot", "cold")
    assert ended[4].metadata["existed"] is True
    assert all(event.duration is not None for event in ended)


def test_a_failure_is_told_with_its_error(events: list[Any]) -> None:
    document = Document.objects.create(file="no/such", profile="hot")
    with pytest.raises(FileNotFoundError):
        document.open()
    assert [(event.name, event.phase) for event in events][-1] == ("storage.get", "exception")


def test_the_tombstone_keeps_the_correlation() -> None:
    document = Document.objects.create_text("a.txt", "a")
    with correlation.use("request-7"):
        document.delete()
    assert Tombstone.objects.get().correlation_id == "request-7"
