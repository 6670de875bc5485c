"""Rows, inserted by a statement that was made once.

What accompanies each message is one row here and one there. Making the statement takes the ORM several times as long
as the database needs for it, and for the rows of a model it is the same each time.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from django.db import connections, models, transaction
from django.db.models.constants import OnConflict
from django.db.models.expressions import RawSQL
from django.db.models.fields import NOT_PROVIDED
from django.db.models.sql import InsertQuery

from . import libpq

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Field: TypeAlias = "models.Field[Any, Any]"

#: Rows of a statement where it has the values of each: there is one text for every number of them.
_AT_ONCE = 100
#: Bytes of a row in a list are escaped twice, which takes longer from here on than a longer statement.
_LARGE = 2048
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
    fields, statement = _made(model, tuple(values), using, connection.vendor, ignore_conflicts, 1)
    prepared = [_prepared(field, value, connection) for field, value in zip(fields, values.values(), strict=True)]
    if notify:
        statement, prepared = f"{statement} RETURNING pg_notify(%s, '')", [*prepared, notify]
    written = libpq.execute(connection, statement, prepared) if connection.vendor == "postgresql" else None
    if written is not None:
        return bool(written)
    with connection.cursor() as cursor:
        cursor.execute(statement, prepared)
        return bool(cursor.rowcount)


def insert_all(
    model: type[models.Model],
    rows: Sequence[Mapping[str, Any]],
    *,
    using: str,
    ignore_conflicts: bool = False,
    returning: str = "",
) -> list[Any]:
    """Insert rows as :func:`insert` does, all or none; return the column ``returning`` of those that were.

    All of them name the same columns, none of which is an array. PostgreSQL gets one statement, unless their bytes are
    many; others get one for each hundred rows, or for as many as they take. ``returning`` is for databases that can:
    MySQL cannot.
    """
    if not rows:
        return []
    if any(len(row) != len(rows[0]) for row in rows):
        raise TypeError("the rows do not name the same columns")
    connection, found = connections[using], []
    made = _listed if connection.vendor == "postgresql" and not _are_large(rows) else _counted
    statements = list(made(model, rows, connection, ignore_conflicts))
    together = transaction.atomic(using=using, savepoint=False) if len(statements) > 1 else nullcontext()
    with together, connection.cursor() as cursor:
        for statement, prepared in statements:
            if returning:
                statement = f"{statement} RETURNING {connection.ops.quote_name(returning)}"
            cursor.execute(statement, prepared)
            found += [value for (value,) in cursor.fetchall()] if returning else []
    return found


def _listed(
    model: type[models.Model], rows: Sequence[Mapping[str, Any]], connection: Any, ignore_conflicts: bool
) -> Iterator[tuple[str, list[Any]]]:
    """A list for each column and, of one that is the same in all rows, its value."""
    first = rows[0]
    varying = tuple(name for name in first if not _is_shared(name, rows)) or tuple(first)[:1]
    shared = tuple(name for name in first if name not in varying)
    fields, statement = _unnesting(model, varying, shared, connection.alias, ignore_conflicts)
    field_of = dict(zip((*varying, *shared), fields, strict=True))
    once = [_prepared(field_of[name], first[name], connection) for name in shared]
    lists = [[_prepared(field_of[name], row[name], connection) for row in rows] for name in varying]
    yield statement, [*once, *lists]


def _is_shared(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Other values than texts may be equal and not the same, as 1 and True are in JSON."""
    value = rows[0][name]
    return all(row[name] is value or (type(row[name]) is type(value) is str and row[name] == value) for row in rows)


def _are_large(rows: Sequence[Mapping[str, Any]]) -> bool:
    names = [name for name, value in rows[0].items() if isinstance(value, bytes)]
    return bool(names) and sum(len(row[name] or b"") for row in rows for name in names) > _LARGE * len(rows)


def _counted(
    model: type[models.Model], rows: Sequence[Mapping[str, Any]], connection: Any, ignore_conflicts: bool
) -> Iterator[tuple[str, list[Any]]]:
    """The values of each row."""
    names = tuple(rows[0])
    size = min(_AT_ONCE, connection.ops.bulk_batch_size([model._meta.get_field(name) for name in names], rows))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        fields, statement = _made(model, names, connection.alias, connection.vendor, ignore_conflicts, len(part))
        columns = list(zip(names, fields, strict=True))
        yield statement, [_prepared(field, row[name], connection) for row in part for name, field in columns]


def _prepared(field: tuple[Field, bool], value: Any, connection: Any) -> Any:
    """What preparing would do to a text is nothing."""
    return value if field[1] and type(value) is str else field[0].get_db_prep_save(value, connection=connection)


@lru_cache(maxsize=1024)
def _made(
    model: type[models.Model], names: tuple[str, ...], using: str, vendor: str, ignore_conflicts: bool, rows: int
) -> tuple[list[tuple[Field, bool]], str]:
    """The fields of these columns, of each whether it is a text of limited length, and the statement."""
    fields, others = _fields(model, names)
    given: dict[str, Any] = {field.attname: None for field in fields if field.db_default is not NOT_PROVIDED}
    given |= {field.attname: RawSQL(_literal(field.get_default()), ()) for field in others}  # noqa: S611  # a word
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    query.insert_values([*fields, *others], [model(**given)] * rows)
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return [(field, type(field) is models.CharField) for field in fields], str(statement)


@lru_cache(maxsize=1024)
def _unnesting(
    model: type[models.Model], varying: tuple[str, ...], shared: tuple[str, ...], using: str, ignore_conflicts: bool
) -> tuple[list[tuple[Field, bool]], str]:
    """The same for rows by their columns: PostgreSQL takes less time to read and plan it, and one text is for all."""
    connection = connections[using]
    fields, others = _fields(model, (*varying, *shared))
    columns = ", ".join(connection.ops.quote_name(str(field.column)) for field in (*fields, *others))
    # Without its length a type cuts nothing off: the column does not take what is too long.
    types = [str(field.db_type(connection)).split("(")[0] for field in fields]
    lists = ", ".join(f"%s::{each}[]" for each in types[: len(varying)])
    values = ["listed.*", *(f"%s::{each}" for each in types[len(varying) :])]
    values += [_literal(field.get_default()) for field in others]
    end = connection.ops.on_conflict_suffix_sql(fields, OnConflict.IGNORE if ignore_conflicts else None, (), ())
    statement = (  # of names that the models give, and of words
        f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({columns})"  # noqa: S608
        f" SELECT {', '.join(values)} FROM UNNEST({lists}) AS listed {end}"
    )
    return [(field, type(field) is models.CharField) for field in fields], statement


def _fields(model: type[models.Model], names: tuple[str, ...]) -> tuple[list[Field], list[Field]]:
    """The fields of these columns, and the others that the database does not fill in by itself."""
    columns = model._meta.local_concrete_fields
    fields = [field for name in names for field in columns if field.attname == name]
    others = [field for field in columns if field not in fields and field is not model._meta.auto_field]
    return fields, [field for field in others if field.db_default is NOT_PROVIDED and field.get_default() is not None]


def _literal(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return f"'{value}'"
    raise TypeError(f"{value!r} cannot stand in a statement: name its column")
