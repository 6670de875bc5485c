"""One row by a statement that was made once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core.inserting import insert, insert_values
from koan_django.inbox.models import InboxEntry
from koan_django.messaging.models import MessageEvent, OutboxMessage

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def entry(fingerprint: str = "a") -> InboxEntry:
    return InboxEntry(fingerprint=fingerprint, handler="h%s", key="k", state="processed", claim="c")


def test_it_writes_what_the_orm_writes() -> None:
    values = {"kind": "handled", "message_id": "1", "alias": "%s?", "bus": "main", "duration_ms": 1.5, "tenant": "☃"}
    MessageEvent.objects.create(**values)
    assert insert(MessageEvent(**values), using="default")
    one, other = MessageEvent.objects.order_by("id").values()
    assert {**one, "id": 0, "at": 0} == {**other, "id": 0, "at": 0}
    assert abs(timezone.now() - other["at"]).total_seconds() < 60


def test_what_the_database_fills_in_by_itself_is_left_to_it() -> None:
    values = {
        "bus": "main",
        "message_id": "1",
        "alias": "a",
        "routing_key": "a.p",
        "headers": {"k": "%s"},
        "body": b"%",
    }
    OutboxMessage.objects.create(**values)
    assert insert(OutboxMessage(**values), using="default")
    one, other = OutboxMessage.objects.order_by("id").values()
    times = {"created_at": 0, "available_at": 0, "id": 0}
    assert {**one, "body": bytes(one["body"]), **times} == {**other, "body": bytes(other["body"]), **times}
    assert abs(one["available_at"] - other["available_at"]).total_seconds() < 60
    later = timezone.now() + timedelta(days=1)
    assert insert(OutboxMessage(**values, available_at=later), using="default")
    assert OutboxMessage.objects.latest("id").available_at == later


def test_values_without_a_row_are_what_the_orm_writes_by_a_statement_for_each_set_of_names() -> None:
    values = {"bus": "%s", "message_id": "1", "alias": "a", "routing_key": "a.p", "headers": {"k": "%s"}, "body": b"%"}
    for more in ({}, {"tries": 3, "last_error": "it's %s", "group": "g"}, {"available_at": timezone.now()}):
        OutboxMessage.objects.create(**values, **more)
        with CaptureQueriesContext(connection) as queries:
            insert_values(OutboxMessage, values | more, using="default")
        assert len(queries) == 1
        one, other = OutboxMessage.objects.order_by("-id").values()[:2]
        times = {"created_at": 0, "id": 0} | ({} if "available_at" in more else {"available_at": 0})
        assert {**one, "body": bytes(one["body"]), **times} == {**other, "body": bytes(other["body"]), **times}
        assert abs(one["available_at"] - other["available_at"]).total_seconds() < 60


def test_a_default_that_cannot_stand_in_a_statement_must_be_named() -> None:
    with pytest.raises(TypeError, match="name its column"):
        insert_values(OutboxMessage, {"bus": "main"}, using="default")


def test_a_row_that_is_there_is_an_error_or_nothing_as_asked_for() -> None:
    assert insert(entry(), using="default")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(entry(), using="default")
    assert not insert(entry(), using="default", ignore_conflicts=True)
    assert insert(entry("b"), using="default", ignore_conflicts=True)
    assert InboxEntry.objects.count() == 2


def test_it_is_one_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        insert(entry(), using="default")
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]
