"""Empties the database behind a test that commits, as ``flush`` does, but touches only what the test has touched.

``flush`` empties all tables and lets every app write its first rows again: content types, permissions, profiles. That
takes longer than most tests. Few tests fill more than a handful of tables, and hardly one changes the first rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.db import connections, transaction
from django.test import TransactionTestCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

    Rows = list[tuple[Any, ...]]

#: The rows of each table after the last flush, by database: those that apps have written by themselves, or none.
_first: dict[str, dict[str, Rows]] = {}


def install() -> None:
    """Let each ``TransactionTestCase`` end with :func:`empty`, unless it asks for less than a whole flush."""
    flush: Callable[[TransactionTestCase], None] = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def teardown(case: TransactionTestCase) -> None:
        if case.available_apps is not None or case.serialized_rollback or case.reset_sequences:
            flush(case)
            return
        for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
            empty(alias)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]


def empty(alias: str) -> None:
    """Leave no rows but those that a flush would leave."""
    connection = connections[alias]
    first = _first.get(alias)
    if first is None or not _clear(connection, first):
        call_command("flush", verbosity=0, interactive=False, database=alias, reset_sequences=False)
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        _first[alias] = {table: _rows(connection, table) for table in sorted(tables)}


def _clear(connection: BaseDatabaseWrapper, first: dict[str, Rows]) -> bool:
    """Delete what was added; ``False`` where one of the ``first`` rows is not what it was."""
    if any(rows and _rows(connection, table) != rows for table, rows in first.items()):
        return False
    filled = [table for table in _filled(connection, list(first)) if not first[table]]
    if filled:
        with (
            connection.constraint_checks_disabled(),
            transaction.atomic(using=connection.alias),
            connection.cursor() as cursor,
        ):
            for table in filled:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
    return True


def _filled(connection: BaseDatabaseWrapper, tables: list[str]) -> list[str]:
    """Those of ``tables`` that have rows; one query."""
    asked = ", ".join(f"EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {asked}")
        return [table for table, has_rows in zip(tables, cursor.fetchone(), strict=True) if has_rows]


def _rows(connection: BaseDatabaseWrapper, table: str) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
        return sorted(cursor.fetchall(), key=repr)
