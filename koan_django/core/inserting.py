"""One row, inserted by a statement that was made once.

What accompanies each message is one row here and one there. Making the statement takes the ORM several times as long
as the database needs for it, and for one row of a model it is the same each time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery

if TYPE_CHECKING:
    from django.db.models import Model


def insert(row: Model, *, using: str, ignore_conflicts: bool = False) -> bool:
    """Insert ``row``, whose values are plain, and return whether it was: with ``ignore_conflicts`` it may be there.

    As with ``bulk_create()`` no signal is sent; unlike there, ``row`` does not learn its primary key.
    """
    connection = connections[using]
    values = [
        field.get_db_prep_save(field.pre_save(row, add=True), connection=connection) for field in _fields(type(row))
    ]
    with connection.cursor() as cursor:
        cursor.execute(_statement(type(row), using, connection.vendor, ignore_conflicts), values)
        return bool(cursor.rowcount)


@cache
def _fields(model: type[Model]) -> list[Any]:
    return [field for field in model._meta.local_concrete_fields if field is not model._meta.auto_field]


@cache
def _statement(model: type[Model], using: str, vendor: str, ignore_conflicts: bool) -> str:
    query = InsertQuery(model, on_conflict=OnConflict.IGNORE if ignore_conflicts else None)
    query.insert_values(_fields(model), [model()])
    [(statement, _values)] = query.get_compiler(using).as_sql()
    return str(statement)
