"""Makes the identifiers and headers of strangers fit for the columns of a database."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from koan_django.core.texts import clean

from . import envelope as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long the columns are that hold what a header says.
_LENGTHS = {wire.CORRELATION: wire.ID_LENGTH, wire.CAUSATION: wire.ID_LENGTH, wire.TENANT: wire.TENANT_LENGTH}

_LONGEST = 2**31 - 1


def identifier(value: object, length: int = wire.ID_LENGTH, size: int = 255) -> str:
    """Return ``value`` as a message id, of ``size`` bytes at most: that is what a short string of AMQP holds.

    One that does not fit is shortened in a way that keeps different ids apart.
    """
    text = str(value)
    if len(text) <= min(length, size) and text.isascii() and "\x00" not in text:
        return text
    fit = clean(text, length)
    if fit == text and len(fit.encode()) <= size:
        return fit
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{fit.encode('ascii', 'replace').decode()[: length - 33]}-{digest}"


def clean_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Return ``headers`` with text for values."""
    return {clean(name): clean_header(name, value) for name, value in headers.items()}


def clean_header(name: str, value: object) -> str:
    """Return the value of one header as text."""
    return clean(value, _LENGTHS.get(name))


def whole(value: object, least: int = 1) -> int:
    """Return ``value`` as a whole number that fits into a column, ``least`` if it is none or smaller."""
    if type(value) is int and least <= value <= _LONGEST:
        return value
    try:
        return min(max(least, int(value)), _LONGEST)  # type: ignore[call-overload,no-any-return]  # anything may stand in a header
    except (TypeError, ValueError, OverflowError):
        return least
