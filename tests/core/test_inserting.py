"""Rows by a statement that was made once."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core.inserting import _unnesting, insert, insert_all
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


def test_many_write_what_the_orm_writes() -> None:
    rows = [
        VALUES | {"message_id": str(n), "body": bytes([n, 0, 255, 37]), "headers": {"n": [n, None, "it's ☃ {},\\\""]}}
        for n in range(3)
    ]
    OutboxMessage.objects.bulk_create(OutboxMessage(**row) for row in rows)
    insert_all(OutboxMessage, rows, using="default")
    found = [
        {**row, "id": 0, "body": bytes(row["body"]), "created_at": 0, "available_at": 0}
        for row in OutboxMessage.objects.order_by("id").values()
    ]
    assert found[:3] == found[3:]
    assert [row["message_id"] for row in found[3:]] == ["0", "1", "2"]


def test_what_is_nothing_in_some_of_many_is_nothing_there() -> None:
    now, values = timezone.now(), {"kind": "handled", "message_id": "1", "alias": "%s", "bus": "main"}
    rows = [{"at": now, **values, "duration_ms": each} for each in (None, 1.5, None)]
    insert_all(MessageEvent, rows, using="default")
    assert list(MessageEvent.objects.order_by("id").values_list("duration_ms", "at")) == [
        (None, now),
        (1.5, now),
        (None, now),
    ]


def test_many_that_are_all_the_same_are_as_many_rows() -> None:
    insert_all(OutboxMessage, [VALUES, VALUES], using="default")
    assert OutboxMessage.objects.count() == 2


def test_of_many_those_that_are_new_are_returned() -> None:
    if not connection.features.can_return_rows_from_bulk_insert:
        pytest.skip("MySQL returns nothing")
    write = partial(insert_all, InboxEntry, using="default", ignore_conflicts=True, returning="fingerprint")
    assert write([entry("a"), entry("b")]) == ["a", "b"]
    assert write([entry("b"), entry("c"), entry("c")]) == ["c"]
    assert write([entry("c")]) == []
    assert InboxEntry.objects.count() == 3


def test_one_of_many_that_is_there_is_an_error_unless_asked_for() -> None:
    insert_all(InboxEntry, [entry("a")], using="default")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_all(InboxEntry, [entry("b"), entry("a")], using="default")
    assert insert_all(InboxEntry, [entry("b"), entry("a")], using="default", ignore_conflicts=True) == []
    assert InboxEntry.objects.count() == 2


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite takes a text of any length")
@pytest.mark.parametrize("column", ["tenant", "claim"], ids=["varying", "shared"])
def test_nothing_is_cut_off(column: str) -> None:
    rows = [entry("a") | {column: "x" * 65}, entry("b") | {column: "x" * 65 if column == "claim" else "y"}]
    with pytest.raises(DataError), transaction.atomic():
        insert_all(InboxEntry, rows, using="default")
    assert not InboxEntry.objects.exists()


def test_values_that_are_equal_and_not_the_same_stay_what_they_are() -> None:
    rows = [VALUES | {"headers": {"n": each}} for each in (1, True, 1.0)]
    insert_all(OutboxMessage, rows, using="default")
    found = [row["n"] for row in OutboxMessage.objects.order_by("id").values_list("headers", flat=True)]
    assert list(map(type, found)) == [int, bool, float]


@pytest.mark.parametrize("size", [2000, 3000])
def test_bodies_of_any_size_are_written(size: int) -> None:
    rows = [VALUES | {"message_id": str(n), "body": bytes([n, 0, 92, 39, 255]) * (size // 5)} for n in range(120)]
    with CaptureQueriesContext(connection) as queries:
        insert_all(OutboxMessage, rows, using="default")
    written = [bytes(body) for body in OutboxMessage.objects.order_by("id").values_list("body", flat=True)]
    assert written == [row["body"] for row in rows]
    in_lists = ["UNNEST" in query["sql"] for query in queries if "INSERT" in query["sql"]]
    assert in_lists == [True] if connection.vendor == "postgresql" and size < 2048 else not any(in_lists)


def test_no_rows_are_none_and_rows_of_other_columns_a_mistake() -> None:
    assert insert_all(InboxEntry, [], using="default", returning="key") == []
    with pytest.raises(TypeError, match="the same columns"):
        insert_all(InboxEntry, [entry("a"), entry("b") | {"alias": "lost"}], using="default")
    assert not InboxEntry.objects.exists()


def test_many_are_few_statements() -> None:
    rows = [entry(str(number)) for number in range(250)]
    with CaptureQueriesContext(connection) as queries:
        insert_all(InboxEntry, rows, using="default", ignore_conflicts=True)
    assert len(queries) == (1 if connection.vendor == "postgresql" else 3)
    assert InboxEntry.objects.count() == 250


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others have the values of each row in the statement")
def test_on_postgresql_the_text_does_not_depend_on_how_many_they_are() -> None:
    _unnesting.cache_clear()
    for count in (1, 2, 3, 50):
        insert_all(InboxEntry, [entry(f"{count}.{number}") for number in range(count)], using="default")
    assert _unnesting.cache_info().misses == 1


@pytest.mark.django_db(transaction=True)
class TestTheFirstStatementOfATransaction:
    """On PostgreSQL that of one row takes the BEGIN along."""

    def test_of_many_is_undone_with_them(self) -> None:
        with transaction.atomic():
            insert_all(InboxEntry, [entry("a"), entry("b")], using="default")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            assert insert_all(InboxEntry, [entry("c"), entry("d")], using="default", returning="key") == ["k", "k"]
            raise ZeroDivisionError
        assert InboxEntry.objects.count() == 2

    def test_that_is_never_sent_leaves_the_block_what_it_is(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            with suppress(ValueError, DataError):  # a text that PostgreSQL does not take
                insert_all(InboxEntry, [entry("\x00"), entry("b")], using="default")
            InboxEntry.objects.create(**entry("later"))
            raise ZeroDivisionError
        assert not InboxEntry.objects.exists()

    def test_does_not_change_how_rows_are_locked_and_read_in_pieces(self) -> None:
        with transaction.atomic():
            insert(InboxEntry, entry(), using="default")
            assert [row.key for row in InboxEntry.objects.select_for_update().iterator(chunk_size=1)] == ["k"]

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="of psycopg")
    @pytest.mark.parametrize(
        ("option", "setting", "value"),
        [
            ("isolation_level", "transaction_isolation", (4, "serializable")),
            ("deferrable", "transaction_deferrable", (True, "on")),
        ],
    )
    def test_keeps_what_the_connection_asks_of_its_transactions(
        self, option: str, setting: str, value: tuple[Any, str]
    ) -> None:
        connection.ensure_connection()
        setattr(connection.connection, option, value[0])
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                insert(InboxEntry, entry(), using="default")
                cursor.execute(f"SHOW {setting}")
                assert cursor.fetchone() == (value[1],)
        finally:
            setattr(connection.connection, option, None)

    def test_of_many_statements_is_all_or_nothing(self) -> None:
        rows = [entry(str(number)) for number in range(150)] + [entry("0")]
        with pytest.raises(IntegrityError):
            insert_all(InboxEntry, rows, using="default")
        assert not InboxEntry.objects.exists()

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
            insert(InboxEntry, entry("a"), using="default")
            with transaction.atomic():
                insert(InboxEntry, entry("b"), using="default")
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)
        if connection.vendor != "sqlite":  # there each statement is committed by itself
            assert not InboxEntry.objects.exists()
