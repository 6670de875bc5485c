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
    connection, names = connections[using], tuple(values)
    prepared = [
        # What preparing would do to a text: nothing.
        value if type(value) is str and is_text else field.get_db_prep_save(value, connection=connection)
        for (field, is_text), value in zip(_named(model, names), values.values(), strict=True)
    ]
    statement = _statement(model, names, using, connection.vendor, ignore_conflicts)
    if notify:
        statement, prepared = f"{statement} RETURNING pg_notify(%s, '')", [*prepared, notify]
    with connection.cursor() as cursor:
        cursor.execute(statement, prepared)
        return bool(cursor.rowcount)


@cache
def _named(model: type[models.Model], names: tuple[str, ...]) -> tuple[tuple[Any, bool], ...]:
    """The fields of these columns, and of each whether it is a text of limited length."""
    fields = {field.attname: field for field in model._meta.local_concrete_fields}
    return tuple((fields[name], type(fields[name]) is models.CharField) for name in names)


@cache
def _statement(
    model: type[models.Model], names: tuple[str, ...], using: str, vendor: str, ignore_conflicts: bool
) -> str:
    columns = model._meta.local_concrete_fields
    defaulted = [field for field in columns if field.db_default is not NOT_PROVIDED]  # the database fills them in
    others = [
        field for field in columns if field not in {model._meta.auto_field, *defaulted} and field.attname not in names
    ]
    given: dict[str, Any] = {field.attname: None for field in defaulted if field.attname in names}
    given |= {field.attname: RawSQL(_literal(field.get_default()), ()) for field in others}  # noqa: S611  # a word
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    query.insert_values([*(field for field, _ in _named(model, names)), *others], [model(**given)])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return str(statement)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if type(value) is int:
        return str(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return f"'{value}'"
    raise TypeError(f"{value!r} cannot stand in a statement: name its column")
