"""``Now``: the time of the database, so that the clocks of hosts do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import DateTimeField, Value, functions
from django.utils import timezone

from . import clock

if TYPE_CHECKING:
    from django.db.models.expressions import Expression


class Now(functions.Now):
    """Django's ``Now``, or the time of the moved clock while one is in force (:mod:`.clock`).

    For queries. A ``db_default`` is part of the table and takes Django's own.
    """

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Expression:  # type: ignore[override]  # or a value
        """Decide when the query takes it in, not when the expression is written."""
        if clock.is_moved():
            return Value(timezone.now(), DateTimeField()).resolve_expression(*args, **kwargs)
        return super().resolve_expression(*args, **kwargs)
