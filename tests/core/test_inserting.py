"""One row by a statement that was made once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core.inserting import insert
from koan_django.inbox.models import InboxEntry
from koan_django.messaging.models import MessageEvent, OutboxMessage

pytestmark = [pytest.mark.django_db, pytest.mark.database]
VALUES = {"bus": "%s", "message_id": "1", "alias": "a", "routing_key": "a.p", "headers": {"k": "%s"}, "body": b"%"}


def entry(fingerprint: str = "a") -> dict[str, Any]:
    words = {"handler": "h%s", "key": "k", "state": "processed", "claim": "c"}
    return {"fingerprint": fingerprint, **words}


def test_it_writes_what_the_orm_writes() -> None:
    values = {"kind": "handled", "message_id": "1", "alias": "%s?", "bus": "main", "duration_ms": 1.5, "tenant": "☃"}
    values |= {"correlation_id": "c'"}
    MessageEvent.objects.create(**values)
    assert insert(MessageEvent, {"at": timezone.now(), **values}, using="default")
    one, other = MessageEvent.objects.order_by("id").values()
    assert {**one, "id": 0, "at": 0} == {**other, "id": 0, "at": 0}
    assert abs(timezone.now() - other["at"]).total_seconds() < 60


def test_defaults_stand_in_the_statement_which_is_one_for_each_set_of_names() -> None:
    for more in ({}, {"tries": 3, "last_error": "it's %s", "group": "g"}, {"available_at": timezone.now()}):
        OutboxMessage.objects.create(**VALUES, **more)
        with CaptureQueriesContext(connection) as queries:
            insert(OutboxMessage, VALUES | more, using="default")
        assert len(queries) == 1
        one, other = OutboxMessage.objects.order_by("-id").values()[:2]
        times = {"created_at": 0, "id": 0} | ({} if "available_at" in more else {"available_at": 0})
        assert {**one, "body": bytes(one["body"]), **times} == {**other, "body": bytes(other["body"]), **times}
        assert abs(one["available_at"] - other["available_at"]).total_seconds() < 60


def test_the_order_of_names_does_not_matter() -> None:
    insert(OutboxMessage, VALUES, using="default")
    insert(OutboxMessage, dict(reversed(VALUES.items())), using="default")
    one, other = OutboxMessage.objects.values("bus", "message_id", "alias", "routing_key", "headers")
    assert one == other


def test_what_is_empty_by_default_may_be_left_out() -> None:
    assert insert(InboxEntry, entry(), using="default")
    row = InboxEntry.objects.get()
    assert (row.lease_until, row.processed_at, row.attempts, row.duplicates, row.tenant) == (None, None, 1, 0, "")


def test_a_default_that_cannot_stand_in_a_statement_must_be_named() -> None:
    with pytest.raises(TypeError, match="name its column"):
        insert(OutboxMessage, {"bus": "main"}, using="default")


def test_a_row_that_is_there_is_an_error_or_nothing_as_asked_for() -> None:
    assert insert(InboxEntry, entry(), using="default")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(InboxEntry, entry(), using="default")
    assert not insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
    assert insert(InboxEntry, entry("b"), using="default", ignore_conflicts=True)
    assert InboxEntry.objects.count() == 2


@pytest.mark.django_db(transaction=True)
class TestTheFirstStatementOfATransaction:
    """On PostgreSQL it takes the BEGIN along."""

    def test_is_sent_together_with_the_begin_of_it(self) -> None:
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            assert insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
            assert not insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
        begun = [query["sql"].startswith("BEGIN; INSERT") for query in queries if "INSERT" in query["sql"]]
        assert begun == [connection.vendor == "postgresql", False]
        assert InboxEntry.objects.count() == 1

    def test_is_undone_with_the_rest(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            insert(InboxEntry, entry("a"), using="default")
            with suppress(LookupError), transaction.atomic():
                insert(InboxEntry, entry("b"), using="default")
                raise LookupError
            assert InboxEntry.objects.count() == 1
            InboxEntry.objects.create(**entry("c"))
            raise ZeroDivisionError
        assert not InboxEntry.objects.exists()

    def test_leaves_the_connection_as_it_was(self) -> None:
        for fingerprint in ("a", "b"):
            with transaction.atomic():
                insert(InboxEntry, entry(fingerprint), using="default")
                assert connection.in_atomic_block
            InboxEntry.objects.create(**entry(f"{fingerprint}{fingerprint}"))  # committed by itself
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                InboxEntry.objects.create(**entry("c"))
                raise ZeroDivisionError
        assert set(InboxEntry.objects.values_list("fingerprint", flat=True)) == {"a", "aa", "b", "bb"}

    def test_may_fail_and_the_next_transaction_goes_on(self) -> None:
        InboxEntry.objects.create(**entry())
        with pytest.raises(IntegrityError), transaction.atomic():
            insert(InboxEntry, entry(), using="default")
        with transaction.atomic():
            assert insert(InboxEntry, entry("b"), using="default")
        assert InboxEntry.objects.count() == 2

    def test_begins_nothing_where_somebody_manages_transactions_by_hand(self) -> None:
        transaction.set_autocommit(False)
        try:
            with CaptureQueriesContext(connection) as queries:
                insert(InboxEntry, entry("a"), using="default")
                with transaction.atomic():
                    insert(InboxEntry, entry("b"), using="default")
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)
        assert not any(query["sql"].startswith("BEGIN; ") for query in queries)
        if connection.vendor != "sqlite":  # there each statement is committed by itself
            assert not InboxEntry.objects.exists()
