"""One row, inserted by a statement that was made once.

What accompanies each message is one row here and one there. Making the statement takes the ORM several times as long
as the database needs for it, and for one row of a model it is the same each time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.constants import OnConflict
from django.db.models.expressions import DatabaseDefault
from django.db.models.fields import NOT_PROVIDED
from django.db.models.sql import InsertQuery

if TYPE_CHECKING:
    from django.db.models import Model


def insert(row: Model, *, using: str, ignore_conflicts: bool = False, notify: str = "") -> bool:
    """Insert ``row``, whose values are plain, and return whether it was: with ``ignore_conflicts`` it may be there.

    As with ``bulk_create()`` no signal is sent; unlike there, ``row`` does not learn its primary key. The channel
    ``notify`` is told when the transaction commits, by the same statement, which only PostgreSQL can do.
    """
    connection = connections[using]
    fields = tuple(field for field in _fields(type(row)) if not _is_left_to_database(row, field))
    values = [field.get_db_prep_save(field.pre_save(row, add=True), connection=connection) for field in fields]
    statement = _statement(type(row), fields, using, connection.vendor, ignore_conflicts)
    if notify:
        statement, values = f"{statement} RETURNING pg_notify(%s, '')", [*values, notify]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


@cache
def _fields(model: type[Model]) -> tuple[Any, ...]:
    return tuple(field for field in model._meta.local_concrete_fields if field is not model._meta.auto_field)


def _is_left_to_database(row: Model, field: Any) -> bool:
    """Whether the column takes its ``db_default``."""
    return isinstance(field.value_from_object(row), DatabaseDefault)


@cache
def _statement(model: type[Model], fields: tuple[Any, ...], using: str, vendor: str, ignore_conflicts: bool) -> str:
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    given = {field.attname: None for field in fields if field.db_default is not NOT_PROVIDED}  # else they are no values
    query.insert_values(fields, [model(**given)])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return str(statement)
