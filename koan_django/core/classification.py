"""Decides whether an exception is transient (retry) or permanent (give up).

An exception may say so itself by a boolean attribute ``transient``, as every :class:`KoanError` does. For others the
rule is the one that operators of queues expect: what the caller's data or code can never make right is permanent,
everything else is worth another attempt.
"""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.db import DataError, NotSupportedError, ProgrammingError

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
    return not isinstance(error, PERMANENT)
