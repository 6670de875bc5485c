"""Makes what strangers and exceptions write fit for the columns of a database."""

from __future__ import annotations


def clean(value: object, length: int | None = None) -> str:
    """Return ``value`` as text that every database takes: without NUL and lone surrogates, cut to ``length``."""
    text = str(value).replace("\x00", "?")
    return text.encode("utf-8", "replace").decode()[:length]
