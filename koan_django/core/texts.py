"""Small things about text: fit for the columns of a database, and right in number."""

from __future__ import annotations


def clean(value: object, length: int | None = None) -> str:
    """Return ``value`` as text that every database takes: without NUL and lone surrogates, cut to ``length``."""
    text = str(value).replace("\x00", "?")
    return text.encode("utf-8", "replace").decode()[:length]


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``count`` with its noun: *1 message*, *2 messages*; ``many`` where an *s* does not make the plural.

    For the output of commands, logs and errors, which are English; what the admin translates goes by ``ngettext``.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"
