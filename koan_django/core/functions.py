"""What queries say: the time of the database, so that the clocks of hosts do not matter, and long lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import DateTimeField, Value, functions
from django.db.models.lookups import In
from django.utils import timezone

from . import clock

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.expressions import Expression
    from django.db.models.sql.compiler import SQLCompiler


class Now(functions.Now):
    """Django's ``Now``, or the time of the moved clock while one is in force (:mod:`.clock`).

    For queries. A ``db_default`` is part of the table and takes Django's own.
    """

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Expression:  # type: ignore[override]  # or a value
        """Decide when the query takes it in, not when the expression is written."""
        if clock.is_moved():
            return _Moment(timezone.now(), DateTimeField()).resolve_expression(*args, **kwargs)
        return super().resolve_expression(*args, **kwargs)


class _Moment(Value):
    """A time that stays one when it is selected: to MySQL a parameter is text."""

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        sql, parameters = self.as_sql(compiler, connection)
        return f"CAST({sql} AS datetime(6))", parameters


class IsOneOf(In):
    """``__in`` for lists of hundreds: ``rows.filter(IsOneOf(F("pk"), pks))``.

    PostgreSQL is sent one value: the text is the same for any number, and takes less to put together and to read. Other
    databases are sent what they were. The values have the type that the column is read as.
    """

    def get_prep_lookup(self) -> list[Any]:
        """Nothing has to be made of them: there are hundreds, and each would be asked."""
        return list(self.rhs)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        sql, parameters = self.process_lhs(compiler, connection)
        kind = self.lhs.output_field.db_type(connection)
        return f"{sql} = ANY(%s::{kind}[])", [*parameters, _array(self.rhs)]


def _array(values: list[Any]) -> Any:
    """A list for psycopg, which looks at each value for what must be escaped; of whole numbers nothing must be."""
    if all(type(value) is int for value in values):
        return f"{{{','.join(map(str, values))}}}"
    return values
