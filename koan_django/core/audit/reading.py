"""Reads events as they are hashed, some at a time, past rows that say nothing one could hash.

Nothing this package writes is such a row; what somebody put into the table by hand may be, and must not stand in the
way of all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .canonical import COLUMNS, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .querysets import AuditEventQuerySet

#: What a value raises that is no JSON, no time, no text, or too long or too deep to be parsed.
UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of :data:`COLUMNS` in the order of their ids, and the ids of those that cannot be read."""

    rows: list[tuple[Any, ...]]
    unreadable: list[int]

    @property
    def ids(self) -> list[int]:
        """All of them."""
        return [*(row[0] for row in self.rows), *self.unreadable]


def pages(events: AuditEventQuerySet, size: int) -> Iterator[Page]:
    """Yield ``events``, ``size`` at a time."""
    rest = events.order_by("id")
    while ids := (page := _page(rest, size)).ids:
        yield page
        rest = events.filter(id__gt=max(ids)).order_by("id")


def _page(events: AuditEventQuerySet, size: int) -> Page:
    try:
        rows = list(events.values_list(*COLUMNS)[:size])
        for row in rows:
            line(row)
    except UNREADABLE:
        return _one_by_one(events, size)
    return Page(rows, [])


def _one_by_one(events: AuditEventQuerySet, size: int) -> Page:
    page = Page([], [])
    for pk in list(events.values_list("id", flat=True)[:size]):
        try:
            for row in events.filter(id=pk).values_list(*COLUMNS):  # none, if it was sealed meanwhile
                line(row)
                page.rows.append(row)
        except UNREADABLE:
            page.unreadable.append(pk)
    return page
