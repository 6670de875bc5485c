"""One row, inserted by a statement that was made once.

What accompanies each message is one row here and one there. Making the statement takes the ORM several times as long
as the database needs for it, and for one row of a model it is the same each time.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.constants import OnConflict
from django.db.models.expressions import DatabaseDefault, RawSQL
from django.db.models.fields import NOT_PROVIDED
from django.db.models.sql import InsertQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import Model

_WORD = re.compile(r"[a-z]*")


def insert(row: Model, *, using: str, ignore_conflicts: bool = False) -> bool:
    """Insert ``row``, whose values are plain, and return whether it was: with ``ignore_conflicts`` it may be there.

    As with ``bulk_create()`` no signal is sent; unlike there, ``row`` does not learn its primary key.
    """
    connection, model = connections[using], type(row)
    left = tuple(field for field in _defaulted(model) if isinstance(field.value_from_object(row), DatabaseDefault))
    values = [
        field.get_db_prep_save(field.pre_save(row, add=True), connection=connection) for field in _fields(model, left)
    ]
    return _execute(_statement(model, left, using, connection.vendor, ignore_conflicts), values, using)


def insert_values(model: type[Model], values: Mapping[str, Any], *, using: str, notify: str = "") -> None:
    """Insert a row that is never made: ``values`` by the names of their columns, each as in :func:`insert`.

    What is not named is the default of its field and stands in the statement: a number or a word, or what the database
    fills in. There is a statement for each set of names. The channel ``notify`` is told when the transaction commits,
    by the same statement, which only PostgreSQL can do.
    """
    connection, names = connections[using], tuple(values)
    prepared = [field.get_db_prep_save(values[field.attname], connection=connection) for field in _named(model, names)]
    statement = _statement_of(model, names, using, connection.vendor)
    if notify:
        statement, prepared = f"{statement} RETURNING pg_notify(%s, '')", [*prepared, notify]
    _execute(statement, prepared, using)


def _execute(statement: str, values: list[Any], using: str) -> bool:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


@cache
def _named(model: type[Model], names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(field for field in model._meta.local_concrete_fields if field.attname in names)


@cache
def _statement_of(model: type[Model], names: tuple[str, ...], using: str, vendor: str) -> str:
    others = [field for field in _fields(model, _defaulted(model)) if field.attname not in names]
    given = {field.attname: None for field in _defaulted(model) if field.attname in names}
    given |= {field.attname: RawSQL(_literal(field.get_default()), ()) for field in others}  # noqa: S611  # a word
    query = InsertQuery(model)
    query.insert_values((*_named(model, names), *others), [model(**given)])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return str(statement)


def _literal(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return f"'{value}'"
    raise TypeError(f"{value!r} cannot stand in a statement: name its column")


@cache
def _defaulted(model: type[Model]) -> tuple[Any, ...]:
    """The fields that the database can fill in by itself."""
    return tuple(field for field in model._meta.local_concrete_fields if field.db_default is not NOT_PROVIDED)


@cache
def _fields(model: type[Model], left: tuple[Any, ...]) -> tuple[Any, ...]:
    """The fields of a statement that leaves some to the database."""
    without = {model._meta.auto_field, *left}
    return tuple(field for field in model._meta.local_concrete_fields if field not in without)


@cache
def _statement(model: type[Model], left: tuple[Any, ...], using: str, vendor: str, ignore_conflicts: bool) -> str:
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    given = {field.attname: None for field in _defaulted(model)}  # else they are no values
    query.insert_values(_fields(model, left), [model(**given)])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return str(statement)
