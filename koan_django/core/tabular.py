"""Rows as comma-separated values that a spreadsheet may open."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: A cell that begins with one of these is a formula to a spreadsheet, also behind blanks; the text may be a stranger's.
_FORMULA = ("=", "+", "-", "@")
_BLANKS = ("\t", "\r")


def comma_separated(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the header and ``rows`` as lines; a text that would be a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    yield _line(writer, buffer, header)
    for row in rows:
        yield _line(writer, buffer, [_harmless(cell) for cell in row])


def _line(writer: Any, buffer: io.StringIO, row: Sequence[Any]) -> str:
    writer.writerow(row)
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and (cell.startswith(_BLANKS) or cell.lstrip().startswith(_FORMULA)):
        return f"'{cell}"
    return cell
