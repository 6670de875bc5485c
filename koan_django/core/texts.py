"""Small things about text: fit for the columns of a database, and right in number."""

from __future__ import annotations


def clean(value: object, length: int | None = None) -> str:
    """Return ``value`` as text that every database takes: without NUL and lone surrogates, cut to ``length``."""
    text = str(value)
    if text.isascii() and "\x00" not in text:  # nearly all of what comes
        return text[:length]
    return text.replace("\x00", "?").encode("utf-8", "replace").decode()[:length]


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``count`` with its noun: *1 message*, *2 messages*; ``many`` where an *s* does not make the plural.

    For the output of commands, logs and errors, which are English; what the admin translates goes by ``ngettext``.
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def one_line(value: object, length: int = 2000) -> str:
    """Return ``value`` as text that adds no line to a log and says nothing to a terminal, cut to ``length``.

    What cannot be printed, ends of lines, escapes and marks that turn the direction of writing, is shown as Python
    writes it: a stranger's text must not look like a line of ours.
    """
    text = str(value)
    if len(text) > length:
        text = f"{text[: length - 1]}…"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
