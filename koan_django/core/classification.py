"""Decides whether an exception is transient (retry) or permanent (give up).

An exception may say so itself by a boolean attribute ``transient``, as every :class:`KoanError` does. For others the
hints know, by the dotted name of the class (:mod:`.hints`). What they do not know follows the rule that operators of
queues expect: what the caller's data or code can never make right is permanent, everything else is worth another
attempt.
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.db import DataError, NotSupportedError, ProgrammingError

from . import hints, known_failures  # noqa: F401  # the latter registers itself

PERMANENT: tuple[type[BaseException], ...] = (
    ValidationError,
    PermissionDenied,
    ImproperlyConfigured,
    DataError,
    ProgrammingError,
    NotSupportedError,
    NotImplementedError,
    SyntaxError,
    RecursionError,
)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed where this one raised ``error``."""
    said = getattr(error, "transient", None)
    if isinstance(said, bool):
        return said
    hint = hints.explain(error)
    return not isinstance(error, PERMANENT) if hint is None else hint.transient
