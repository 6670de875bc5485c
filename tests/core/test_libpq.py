"""Rows that PostgreSQL gets without a cursor are those that a cursor would write, and nobody is kept from watching."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connection, connections, transaction
from django.db.backends import utils
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from koan_django.core import libpq
from koan_django.core.inserting import insert
from koan_django.inbox.models import InboxEntry
from koan_django.messaging.models import MessageEvent, OutboxMessage
from tests.services.pgbouncer import PgBouncer
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL"),
]
HOSTILE = "it's \\ \"%s\" %% {} \n\r\t \x01 ☃ \U0001f600 $1 E'x' -- ; DROP"


def entry(fingerprint: str = "a", **more: Any) -> dict[str, Any]:
    return {"fingerprint": fingerprint, "handler": "h", "key": "k", "state": "processed", "claim": "c", **more}


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What libpq wrote, a call each; ``None`` where a cursor had to."""
    told: list[int | None] = []
    execute = libpq.execute

    def noted(*given: Any) -> int | None:
        told.append(execute(*given))
        return told[-1]

    monkeypatch.setattr(libpq, "execute", noted)
    return told


@contextmanager
def wire(path: Path) -> Iterator[Callable[[], list[str]]]:
    """What goes to the server meanwhile, as libpq notes it: a line for each message."""
    connection.ensure_connection()
    with path.open("w+b") as file:
        connection.connection.pgconn.trace(file.fileno())
        try:
            yield lambda: [line.split("\t", 4)[-1] for line in path.read_text().splitlines() if "\tF\t" in line]
        finally:
            connection.connection.pgconn.untrace()


def test_the_first_of_a_transaction_takes_its_begin_along(tmp_path: Path, direct: list[int | None]) -> None:
    with wire(tmp_path / "trace") as sent:
        with transaction.atomic():
            assert insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
            assert not insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
        words = [each.split('"')[1].split()[:2] for each in sent()]
    assert words == [["BEGIN;", "INSERT"], ["INSERT", "INTO"], ["COMMIT"]]
    assert direct == [1, 0]


def test_outside_a_transaction_it_is_committed_by_itself(tmp_path: Path, direct: list[int | None]) -> None:
    with wire(tmp_path / "trace") as sent:
        assert insert(InboxEntry, entry(), using="default")
        assert len(sent()) == 1
    assert direct == [1]
    connection.close()
    assert InboxEntry.objects.count() == 1


@pytest.mark.parametrize(
    "values",
    [
        {"message_id": HOSTILE, "headers": {HOSTILE: [HOSTILE, None, 1.5, True]}, "body": bytes(range(256))},
        {"lane": 77, "tries": 2**31 - 1, "last_error": "", "body": b""},
        {"available_at": datetime(2026, 11, 29, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))},
        {"available_at": datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
    ],
    ids=["texts", "numbers", "a time elsewhere", "a time long ago"],
)
def test_it_writes_what_a_cursor_writes(values: dict[str, Any], direct: list[int | None]) -> None:
    usual = {"bus": "b", "message_id": "1", "alias": "a", "routing_key": "a.p", "headers": {}, "body": b"x"}
    insert(OutboxMessage, usual | values, using="default")
    with CaptureQueriesContext(connection):
        insert(OutboxMessage, usual | values, using="default")
    assert direct == [1, None]
    one, other = (
        {**row, "id": 0, "created_at": 0, "body": bytes(row["body"])} for row in OutboxMessage.objects.values()
    )
    if "available_at" not in values:
        one["available_at"] = other["available_at"]
    assert one == other


@pytest.mark.parametrize("number", [1e-300, 0.1 + 0.2, 1.7976931348623157e308, float("inf"), None])
def test_numbers_are_written_to_the_last_bit(number: float | None, direct: list[int | None]) -> None:
    values = {"at": datetime.now(UTC), "kind": "handled", "message_id": "1", "alias": "a", "bus": "b"}
    insert(MessageEvent, values | {"duration_ms": number}, using="default")
    assert MessageEvent.objects.get().duration_ms == number
    assert direct == [None if number == float("inf") else 1]


class TestErrors:
    def test_are_those_of_a_cursor(self, direct: list[int | None]) -> None:
        insert(InboxEntry, entry(), using="default")
        with pytest.raises(IntegrityError, match="koan_inbox_fingerprint") as caught, transaction.atomic():
            insert(InboxEntry, entry(), using="default")
        assert caught.value.__cause__.diag.constraint_name == "koan_inbox_fingerprint"  # type: ignore[union-attr]
        assert insert(InboxEntry, entry("b"), using="default")
        assert direct == [1, 1]

    def test_a_text_that_postgresql_does_not_take_is_refused_and_not_cut_off(self) -> None:
        for text in ("a\x00b", "\udc80"):
            with pytest.raises((DatabaseError, ValueError)), transaction.atomic():
                insert(InboxEntry, entry(key=text), using="default")
        assert not InboxEntry.objects.exists()

    def test_nothing_is_run_in_a_transaction_that_is_broken(self) -> None:
        with pytest.raises(TransactionManagementError), transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic(savepoint=False):
                raise ZeroDivisionError
            insert(InboxEntry, entry(), using="default")

    def test_after_one_that_was_caught_without_a_savepoint_the_database_refuses(self) -> None:
        insert(InboxEntry, entry(), using="default")
        with pytest.raises(DatabaseError, match="aborted"), transaction.atomic():
            with pytest.raises(IntegrityError):
                insert(InboxEntry, entry(), using="default")
            insert(InboxEntry, entry("b"), using="default")
        assert InboxEntry.objects.count() == 1

    def test_a_connection_that_was_ended_is_an_operational_error_and_opened_anew(self) -> None:
        connection.ensure_connection()
        ended = connection.connection.info.backend_pid
        _elsewhere("SELECT pg_terminate_backend(%s)", [ended])
        with pytest.raises(OperationalError), transaction.atomic():
            insert(InboxEntry, entry(), using="default")
        connection.close_if_unusable_or_obsolete()
        assert insert(InboxEntry, entry(), using="default")

    def test_an_event_loop_is_not_blocked_by_mistake(self, direct: list[int | None]) -> None:
        async def careless() -> None:
            insert(InboxEntry, entry(), using="default")

        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(careless())


def test_who_waits_for_another_is_ended_by_a_signal() -> None:
    """A claim of work that is being done waits for its end; a time limit must be able to interrupt that."""

    class TimeLimitError(Exception):
        """As of a soft time limit."""

    def limit(*_given: object) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGUSR1, limit)
    held, over = threading.Event(), threading.Event()
    other = threading.Thread(target=_hold, args=[held, over])
    other.start()
    try:
        assert held.wait(20)
        threading.Thread(target=_signal_once_it_waits, args=[os.getpid()]).start()
        with pytest.raises(TimeLimitError), transaction.atomic():
            insert(InboxEntry, entry(), using="default", ignore_conflicts=True)
    finally:
        over.set()
        other.join(20)
        signal.signal(signal.SIGUSR1, before)
    connection.close_if_unusable_or_obsolete()
    assert not insert(InboxEntry, entry(), using="default", ignore_conflicts=True)


def _hold(held: threading.Event, over: threading.Event) -> None:
    with transaction.atomic():
        insert(InboxEntry, entry(), using="default")
        held.set()
        over.wait(30)
    connection.close()


def _signal_once_it_waits(pid: int) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    wait_until(lambda: _elsewhere(waiting) == (1,), 20, "the claim to wait")
    time.sleep(0.05)
    os.kill(pid, signal.SIGUSR1)


def _elsewhere(statement: str, values: Any = None) -> Any:
    """Run a statement on a connection beside Django's."""
    made = connection.copy()
    try:
        with made.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()
    finally:
        made.close()


class TestPreparing:
    """What a connection runs again and again PostgreSQL reads and plans once."""

    @pytest.fixture(autouse=True)
    def anew(self, direct: list[int | None]) -> Iterator[None]:
        connection.close()
        yield
        assert None not in direct
        connection.close()

    def claim(self, *fingerprints: object) -> None:
        for each in fingerprints:
            with transaction.atomic():
                assert insert(InboxEntry, entry(str(each)), using="default", ignore_conflicts=True)

    def names(self) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_prepared_statements ORDER BY name")
            return [name for (name,) in cursor.fetchall()]

    def test_begins_when_a_statement_has_come_a_few_times(self, tmp_path: Path) -> None:
        self.claim(*range(libpq.USES))
        assert self.names() == []
        self.claim("a")
        assert self.names() == ["koan_0"]
        with wire(tmp_path / "trace") as sent:
            self.claim("b")
            assert sent()[0].split('"')[1].startswith("BEGIN; EXECUTE koan_0 (")
        assert InboxEntry.objects.count() == libpq.USES + 2

    def test_changes_nothing_in_what_is_written(self) -> None:
        usual = {"bus": "b", "alias": HOSTILE, "routing_key": "a.p", "headers": {HOSTILE: [None]}, "body": b"\x00\xff"}
        usual |= {"lane": 7, "available_at": datetime(2026, 11, 29, 12, tzinfo=UTC)}
        for number in range(libpq.USES + 2):
            insert(OutboxMessage, usual | {"message_id": str(number)}, using="default")
        assert self.names() == ["koan_0"]
        first, *others = (
            {**row, "id": 0, "message_id": "", "created_at": 0, "body": bytes(row["body"])}
            for row in OutboxMessage.objects.values()
        )
        assert all(each == first for each in others)

    def test_goes_by_the_schema_of_the_moment(self) -> None:
        self.claim(*range(libpq.USES + 1))
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA IF NOT EXISTS of_a_tenant")
            cursor.execute("CREATE TABLE of_a_tenant.koan_inbox_inboxentry (LIKE koan_inbox_inboxentry INCLUDING ALL)")
            try:
                cursor.execute("SET search_path TO of_a_tenant, public")
                self.claim("elsewhere")
                assert InboxEntry.objects.count() == 1
                cursor.execute("SET search_path TO public")
                assert InboxEntry.objects.count() == libpq.USES + 1
            finally:
                cursor.execute("DROP SCHEMA of_a_tenant CASCADE")

    def test_ends_where_somebody_has_the_connection_forget_it(self) -> None:
        self.claim(*range(libpq.USES + 1))
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        self.claim("a", "b")
        assert self.names() == []
        assert InboxEntry.objects.count() == libpq.USES + 3

    def test_that_was_forgotten_fails_once_where_something_came_before(self) -> None:
        self.claim(*range(libpq.USES + 1))
        with pytest.raises(OperationalError, match="does not exist"), transaction.atomic():
            InboxEntry.objects.create(**entry("a"))
            with connection.cursor() as cursor:
                cursor.execute("DEALLOCATE ALL")
            insert(InboxEntry, entry("b"), using="default", ignore_conflicts=True)
        self.claim("a", "b")
        assert InboxEntry.objects.count() == libpq.USES + 3

    def test_that_was_forgotten_is_run_anew_outside_a_transaction(self) -> None:
        for number in range(libpq.USES + 1):
            insert(InboxEntry, entry(str(number)), using="default")
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
        assert insert(InboxEntry, entry("a"), using="default")

    def test_begins_anew_after_an_error_that_may_come_of_what_a_column_was(self) -> None:
        statement = "INSERT INTO numbers (number) VALUES (%s)"
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE numbers (number smallint)")
            try:
                for number in range(libpq.USES + 1):
                    libpq.execute(connections["default"], statement, [number])
                cursor.execute("ALTER TABLE numbers ALTER number TYPE bigint")
                with pytest.raises(DataError):
                    libpq.execute(connections["default"], statement, [70_000])
                assert libpq.execute(connections["default"], statement, [70_000]) == 1
            finally:
                cursor.execute("DROP TABLE numbers")

    def test_ends_after_so_many_errors_that_the_server_would_keep_too_much(self) -> None:
        statement = "INSERT INTO numbers (number) VALUES (%s)"
        plain = connections["default"]
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE numbers (number smallint)")
            try:
                for _ in range(libpq.USES + libpq.MOST + 20):
                    with pytest.raises(DataError):
                        libpq.execute(plain, statement, [70_000])
                assert len(self.names()) == libpq.MOST
                assert libpq.execute(plain, statement, [7]) == 1
            finally:
                cursor.execute("DROP TABLE numbers")

    def test_is_not_done_in_a_pool_that_may_have_its_connections_forget(self) -> None:
        def reset(raw: Any) -> None:
            raw.autocommit = True
            raw.execute("DISCARD ALL")
            raw.autocommit = False

        pooled = connections["default"].copy()
        options = pooled.settings_dict["OPTIONS"] | {"pool": {"min_size": 1, "max_size": 1, "reset": reset}}
        pooled.settings_dict = pooled.settings_dict | {"OPTIONS": options}
        try:
            for number in range(libpq.USES + 3):
                with pooled.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS notes (text text)")
                assert libpq.execute(pooled, "INSERT INTO notes VALUES (%s)", [str(number)]) == 1
                with pooled.cursor() as cursor:
                    cursor.execute("SELECT name FROM pg_prepared_statements")
                    assert cursor.fetchall() == []
                pooled.close()
        finally:
            pooled.close()
            pooled.close_pool()

    def test_is_left_to_psycopg_where_that_prepares(self) -> None:
        connection.ensure_connection()
        connection.connection.prepare_threshold = 5
        self.claim(*range(libpq.USES + 2))
        assert self.names() == []

    @pytest.mark.services("pgbouncer")
    def test_does_not_happen_behind_a_pooler(
        self, pgbouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch, direct: list[int | None]
    ) -> None:
        with pgbouncer.database() as dsn:
            where = urlsplit(dsn)
            place = {"NAME": where.path.lstrip("/"), "HOST": where.hostname, "PORT": where.port, "USER": "koan"}
            pooled = connection.copy()
            pooled.settings_dict = connection.settings_dict | place
            try:
                with pooled.cursor() as cursor:
                    cursor.execute("CREATE TABLE notes (text text)")
                    for _ in range(libpq.USES + 3):
                        assert libpq.execute(pooled, "INSERT INTO notes VALUES (%s)", ["it's"]) == 1
                    cursor.execute("SELECT name FROM pg_prepared_statements")
                    assert cursor.fetchall() == []
            finally:
                pooled.close()


class TestWatching:
    """Whoever watches statements by the cursor sees these as well."""

    @pytest.fixture(autouse=True)
    def written(self, direct: list[int | None]) -> Iterator[None]:
        yield
        assert direct == [None]
        assert InboxEntry.objects.count() == 1

    def test_wrappers_of_statements(self) -> None:
        seen: list[str] = []

        def watch(execute: Any, sql: str, *rest: Any) -> Any:
            seen.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(watch):
            insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    def test_the_log_of_queries(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            insert(InboxEntry, entry(), using="default")
        assert len(queries) == 1

    def test_a_tool_that_puts_itself_into_the_cursors_of_django(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        execute = utils.CursorWrapper.execute

        def traced(self: Any, sql: str, params: Any = None) -> Any:
            seen.append(sql)
            return execute(self, sql, params)

        monkeypatch.setattr(utils.CursorWrapper, "execute", traced)
        insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    def test_a_tool_that_gives_the_connection_cursors_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.db.backends.postgresql.base import Cursor

        seen: list[object] = []

        class Traced(Cursor):
            def execute(self, *given: Any, **named: Any) -> Any:
                seen.append(given[0])
                return super().execute(*given, **named)

        connection.ensure_connection()
        monkeypatch.setattr(connection.connection, "cursor_factory", Traced)
        insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    def test_a_tool_that_puts_itself_before_the_cursors_of_all_connections(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[object] = []
        make = BaseDatabaseWrapper.cursor

        def cursor(self: Any) -> Any:
            seen.append(None)
            return make(self)

        monkeypatch.setattr(BaseDatabaseWrapper, "cursor", cursor)
        insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    @pytest.mark.parametrize("place", [__file__, f"{Path(django.__file__).parent}_tenants/base.py"])
    def test_a_backend_that_does_with_each_cursor_what_counts_for_the_statement(
        self, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        """As those for schemas of tenants do: they set the search path there."""
        seen: list[object] = []

        class Schemas(type(connections["default"])):  # type: ignore[misc]  # as the settings name it
            def _cursor(self, name: str | None = None) -> Any:
                seen.append(name)
                return super()._cursor(name)

        monkeypatch.setattr(Schemas._cursor, "__code__", Schemas._cursor.__code__.replace(co_filename=place))
        monkeypatch.setattr(connections["default"], "__class__", Schemas)
        insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    def test_a_tool_that_stands_before_the_cursors_of_one_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[object] = []
        make = connection.cursor

        def cursor() -> Any:
            seen.append(None)
            return make()

        monkeypatch.setattr(connection, "cursor", cursor)
        insert(InboxEntry, entry(), using="default")
        assert len(seen) == 1

    def test_a_connection_that_speaks_another_encoding(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET client_encoding TO 'LATIN1'")
        try:
            insert(InboxEntry, entry(key="é"), using="default")
        finally:
            connection.close()
        assert InboxEntry.objects.get().key == "é"
