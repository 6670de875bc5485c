"""Gives an INSERT to PostgreSQL without a cursor, on the connection that Django has opened by psycopg 3.

What a cursor, its adaptation and its wrappers do around a statement takes as much processor time as PostgreSQL takes
for the row. A cursor is what the world knows, though: whoever logs, wraps or traces statements does it there. Wherever
somebody does, or asks anything else of the connection than Django by itself, :func:`execute` leaves it to a cursor.

A statement that a connection runs again and again is prepared, so that PostgreSQL reads and plans it once; behind a
pooler it is not, whose connection is another's in the next transaction.
"""

from __future__ import annotations

import inspect
import math
import os
import weakref
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import django
from django.db import OperationalError
from django.db.backends import utils

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: How often a connection runs a statement before it is prepared, and how often it prepares one at most: the server
#: keeps all of them until the connection is closed.
USES, MOST = 5, 50
#: What makes a cursor, of the class of a connection, and what runs a statement, of Django's cursors.
_MAKING = ("cursor", "_cursor", "create_cursor", "_prepare_cursor", "make_cursor")
_USING = ("execute", "_execute", "_execute_with_wrappers")
_OWN = frozenset(_MAKING)
#: With its end: other packages have names that begin like Django's, and stand beside it.
_DJANGO = f"{Path(django.__file__).parent}{os.sep}"


class _Driver(NamedTuple):
    """What is used of psycopg 3."""

    connection: Any
    idle: Any
    in_transaction: Any
    failed: Any
    no_pipeline: Any
    escaping: Any
    json: Any
    binary: Any
    #: Yields until all results are there; ``Connection.wait`` runs it.
    execute: Callable[[Any], Any]
    error: Callable[[Any], Exception]
    unknown_name: type[Exception]
    mistakes: tuple[type[Exception], ...]


def execute(connection: Any, statement: str, values: Sequence[Any]) -> int | None:
    """Run an INSERT with ``%s`` for each of ``values``; return how many rows it wrote, ``None`` when it was not run.

    As the first statement of an ``atomic()`` block it takes the BEGIN along. Raises what Django's cursor would.
    """
    driver = _driver()
    if driver is None or connection.queries_logged or connection.execute_wrappers or not _is_plain(connection):
        return None
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    connection.validate_no_broken_transaction()
    raw = connection.connection
    begin = _beginning(connection, raw, driver) if _is_usual(raw, driver) else None
    literals = None if begin is None else _literals(values, driver.escaping(raw.pgconn).escape_literal, driver)
    if begin is None or literals is None:
        return None
    with connection.wrap_database_errors, raw.lock:
        statements = _statements_of(connection, raw)
        is_first = raw.pgconn.transaction_status == driver.idle
        try:
            result = _run(raw, begin + statements.text(raw, statement, driver) % literals, driver)
        except driver.unknown_name as error:  # somebody has had the connection forget what was prepared
            statements.give_up()
            if not is_first:  # Django would say that the program is wrong, which no repetition mends
                raise OperationalError(str(error)) from error
            if begin:
                _run(raw, b"ROLLBACK", driver)
            result = _run(raw, begin + _plain(statement) % literals, driver)
        except driver.mistakes:  # what is prepared may know a column by the type that it had
            statements.forget(statement)
            raise
    return int(result.command_tuples or 0)


def _run(raw: Any, text: bytes, driver: _Driver) -> Any:
    """Run statements and return the result of the last; a signal ends the waiting, as with a cursor."""
    raw.pgconn.send_query(text)
    result = raw.wait(driver.execute(raw.pgconn))[-1]
    if result.status == driver.failed:
        raise driver.error(result)
    return result


def _is_plain(connection: Any) -> bool:
    """Whether cursors are made and used by Django alone: no backend of another makes them, and no tool watches them.

    A backend may do with each cursor what counts for the statement, as those for schemas of tenants do.
    """
    if not _OWN.isdisjoint(vars(connection)):
        return False
    kind = type(connection)
    return _are_of_django(
        *(getattr(kind, name) for name in _MAKING), *(getattr(utils.CursorWrapper, name) for name in _USING)
    )


@lru_cache(maxsize=64)
def _are_of_django(*methods: Any) -> bool:
    codes = (getattr(inspect.unwrap(method), "__code__", None) for method in methods)
    outer = (getattr(method, "__code__", None) for method in methods)
    return all(code is not None and code.co_filename.startswith(_DJANGO) for code in (*codes, *outer))


def _is_usual(raw: Any, driver: _Driver) -> bool:
    """Whether the connection of psycopg is as Django makes it, and texts are read as they are written."""
    return bool(
        type(raw) is driver.connection
        and not raw.closed
        and raw.cursor_factory.__module__ == "django.db.backends.postgresql.base"
        and raw.pgconn.pipeline_status == driver.no_pipeline
        and raw.pgconn.parameter_status(b"client_encoding") == b"UTF8"
        and raw.pgconn.parameter_status(b"standard_conforming_strings") == b"on"
    )


def _beginning(connection: Any, raw: Any, driver: _Driver) -> bytes | None:
    """What comes before the statement; ``None`` where psycopg would say something else, or complain."""
    status = raw.pgconn.transaction_status
    if status == driver.in_transaction:
        return b""
    if status != driver.idle:
        return None
    if raw.autocommit:
        return b""
    if not (connection.in_atomic_block and connection.commit_on_exit):  # somebody manages transactions by hand
        return None
    return b"BEGIN; " if raw.isolation_level is raw.read_only is raw.deferrable is None else None


# what is prepared


class _Statements:
    """What one connection has run, and what it has prepared of that."""

    def __init__(self, may_prepare: bool | None) -> None:
        """``may_prepare`` is ``None`` where that has to be asked."""
        self._uses: dict[str, int] = {}
        self._texts: dict[str, bytes] = {}
        self._prepared_so_far = 0
        self._may_prepare = may_prepare

    def text(self, raw: Any, statement: str, driver: _Driver) -> bytes:
        """Return what runs ``statement``, with ``%s`` for each value; prepare it when it is worth it."""
        text = self._texts.get(statement)
        if text is not None:
            return text
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        if uses <= USES:
            return _plain(statement)
        text = self._texts[statement] = self._prepared(raw, statement, driver)
        return text

    def forget(self, statement: str) -> None:
        """Prepare ``statement`` anew the next time."""
        self._texts.pop(statement, None)

    def give_up(self) -> None:
        """Prepare nothing more."""
        self._may_prepare = False
        self._texts = {}

    def _prepared(self, raw: Any, statement: str, driver: _Driver) -> bytes:
        if self._may_prepare is None:
            self._may_prepare = raw.prepare_threshold is None and _is_direct(raw, driver)
        if not self._may_prepare or self._prepared_so_far >= MOST:
            return _plain(statement)
        *parts, end = (part.replace(b"%%", b"%") for part in _plain(statement).split(b"%s"))
        name = b"koan_%d" % self._prepared_so_far
        self._prepared_so_far += 1  # before it is: whoever is interrupted must not find the name taken
        numbered = b"".join(b"%b$%d" % (part, number) for number, part in enumerate(parts, 1))
        _run(raw, b"PREPARE %b AS %b%b" % (name, numbered, end), driver)
        return b"EXECUTE %b (%b)" % (name, b", ".join([b"%s"] * len(parts)))


_kept: weakref.WeakKeyDictionary[Any, _Statements] = weakref.WeakKeyDictionary()


def _statements_of(connection: Any, raw: Any) -> _Statements:
    found = _kept.get(raw)
    if found is None:
        # A pool of psycopg may have a connection forget everything whenever it is given back.
        pooled = connection.settings_dict["OPTIONS"].get("pool")
        found = _kept[raw] = _Statements(may_prepare=False if pooled else None)
    return found


def _is_direct(raw: Any, driver: _Driver) -> bool:
    """Whether nothing is between that gives a transaction another connection: poolers tell a number of their own."""
    found = _run(raw, b"SELECT pg_backend_pid()", driver).get_value(0, 0)
    return bool(int(found) == raw.pgconn.backend_pid)


@lru_cache(maxsize=1024)
def _plain(statement: str) -> bytes:
    return statement.encode()


# how values are written


def _literals(values: Sequence[Any], quoted: Callable[[bytes], bytes], driver: _Driver) -> tuple[bytes, ...] | None:
    """``values`` as they stand in a statement; ``None`` if one of them is of another kind."""
    literals = []
    for value in values:
        literal = _literal(value, quoted, driver)
        if literal is None:
            return None
        literals.append(literal)
    return tuple(literals)


def _literal(value: Any, quoted: Callable[[bytes], bytes], driver: _Driver) -> bytes | None:
    kind = type(value)
    if kind is str:
        # psycopg refuses it; to libpq it is the end of the text.
        return None if "\x00" in value else quoted(value.encode())
    if value is None:
        return b"NULL"
    if kind is datetime:
        return b"'%b'" % value.isoformat().encode()
    if kind is float:
        return b"'%b'" % repr(value).encode() if math.isfinite(value) else None
    if isinstance(value, int) and kind is not bool:
        return b"%d" % value
    if isinstance(value, driver.binary):
        value = value.obj
    if type(value) is bytes:
        return b"'\\x%b'" % value.hex().encode()
    if isinstance(value, driver.json) and value.dumps is not None:
        return _literal(value.dumps(value.obj), quoted, driver)
    return None


@cache
def _driver() -> _Driver | None:
    try:
        from psycopg import Connection, DataError, ProgrammingError, generators
        from psycopg.dbapi20 import Binary
        from psycopg.errors import InvalidSqlStatementName, error_from_result
        from psycopg.pq import Escaping, ExecStatus, PipelineStatus, TransactionStatus
        from psycopg.types.json import Jsonb
    except ImportError:
        return None
    return _Driver(
        connection=Connection,
        idle=TransactionStatus.IDLE,
        in_transaction=TransactionStatus.INTRANS,
        failed=ExecStatus.FATAL_ERROR,
        no_pipeline=PipelineStatus.OFF,
        escaping=Escaping,
        json=Jsonb,
        binary=Binary,
        execute=generators.execute,
        error=error_from_result,
        unknown_name=InvalidSqlStatementName,
        mistakes=(DataError, ProgrammingError),
    )
