"""One row, inserted by a statement that was made once.

What accompanies each message is one row here and one there. Making the statement takes the ORM several times as long
as the database needs for it, and for one row of a model it is the same each time.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models
from django.db.models.constants import OnConflict
from django.db.models.expressions import RawSQL
from django.db.models.fields import NOT_PROVIDED
from django.db.models.sql import InsertQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORD = re.compile(r"[a-z]*")


def insert(
    model: type[models.Model],
    values: Mapping[str, Any],
    *,
    using: str,
    ignore_conflicts: bool = False,
    notify: str = "",
) -> bool:
    """Insert a row that is never made; return whether it was: with ``ignore_conflicts`` it may be there.

    ``values`` are plain, by the names of their columns. What is not named is the default of its field and stands in the
    statement: nothing, a number or a word, or what the database fills in. There is a statement for each set of names.
    As with ``bulk_create()`` no signal is sent; unlike there, what a field sets by itself, as with ``auto_now_add``,
    has to be named. The channel ``notify`` is told when the transaction commits, by the same statement, which only
    PostgreSQL can do.
    """
    connection = connections[using]
    fields, statement = _made(model, tuple(values), using, connection.vendor, ignore_conflicts)
    prepared = [
        # What preparing would do to a text: nothing.
        value if type(value) is str and is_text else field.get_db_prep_save(value, connection=connection)
        for (field, is_text), value in zip(fields, values.values(), strict=True)
    ]
    if notify:
        statement, prepared = f"{statement} RETURNING pg_notify(%s, '')", [*prepared, notify]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and _may_begin(connection, cursor):
            # Atomic sets this to the same at its end, before anything else can run.
            connection.connection.autocommit = True
            cursor.execute(f"BEGIN; {statement}", prepared)
            cursor.nextset()
        else:
            cursor.execute(statement, prepared)
        return bool(cursor.rowcount)


def _may_begin(connection: Any, cursor: Any) -> bool:
    """Whether the statement is the first of an ``atomic()`` block of PostgreSQL, and its BEGIN may travel with it.

    psycopg sends that by itself and waits for the answer, which takes half as long as the statement.
    """
    if not (connection.in_atomic_block and connection.commit_on_exit):
        return False
    found = _psycopg()
    # Only a cursor that puts the values in takes two statements at once.
    return (
        found is not None
        and isinstance(cursor.cursor, found[0])
        and connection.connection.pgconn.transaction_status == found[1]
    )


@cache
def _psycopg() -> tuple[type, int] | None:
    """What is asked of psycopg 3: its cursor, and the state of a connection in no transaction."""
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    if not is_psycopg3:
        return None
    from psycopg import ClientCursor
    from psycopg.pq import TransactionStatus

    return ClientCursor, TransactionStatus.IDLE


@cache
def _made(
    model: type[models.Model], names: tuple[str, ...], using: str, vendor: str, ignore_conflicts: bool
) -> tuple[list[tuple[Any, bool]], str]:
    """The fields of these columns, of each whether it is a text of limited length, and the statement."""
    columns = model._meta.local_concrete_fields
    fields = [field for name in names for field in columns if field.attname == name]
    defaulted = [field for field in columns if field.db_default is not NOT_PROVIDED]  # the database fills them in
    others = [field for field in columns if field not in {model._meta.auto_field, *defaulted, *fields}]
    given: dict[str, Any] = {field.attname: None for field in defaulted if field in fields}
    given |= {field.attname: RawSQL(_literal(field.get_default()), ()) for field in others}  # noqa: S611  # a word
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    query.insert_values([*fields, *others], [model(**given)])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return [(field, type(field) is models.CharField) for field in fields], str(statement)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return f"'{value}'"
    raise TypeError(f"{value!r} cannot stand in a statement: name its column")
