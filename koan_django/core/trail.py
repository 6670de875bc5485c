"""One story, told by every app that took part in it: what happened under one correlation id, in the order of time.

Each app adds its *sources* when it starts. A source names the rows of one model that belong to a correlation id, the
column that says when, and what one row means as a :class:`Step`. Core reads a page of each, sorts and cuts, so that a
story of a hundred thousand rows costs as much to look at as a short one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime

from .registry import Registry, caller

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Steps on one page.
PAGE = 200
#: A key of 64 bits has at most 19 digits; 18 keep within it.
_PK_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. ``kind`` says what sort of thing, in the words of ``koan_core/trail.css``.

    ``state`` is a word for how it went, shown as a badge. With ``duration_ms`` it ended ``at`` that time, unless
    ``begins``.
    """

    at: datetime
    kind: str
    title: str
    state: str = ""
    detail: str = ""
    who: str = ""
    duration_ms: float | None = None
    attempt: int | None = None
    begins: bool = False
    troubled: bool = False

    @property
    def began(self) -> datetime:
        """When it began."""
        return self.at if self.begins or self.duration_ms is None else self.at - self._duration

    @property
    def ended(self) -> datetime:
        """When it ended."""
        return self.at + self._duration if self.begins and self.duration_ms is not None else self.at

    @property
    def _duration(self) -> timedelta:
        return timedelta(milliseconds=self.duration_ms or 0)


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of ``model`` that tell of a correlation id.

    ``rows`` gets the id and returns a queryset; ``at`` is a column of it, or an annotation, that is never null.
    ``identifiers`` are columns by whose value somebody may look for the story, such as ``message_id``.
    """

    model: type[Model]
    rows: Callable[[str], QuerySet[Any]]
    step: Callable[[Any], Step]
    at: str = "at"
    identifiers: tuple[str, ...] = ()

    @property
    def has_tenant(self) -> bool:
        """Whether its rows say to which tenant they belong."""
        try:
            self.model._meta.get_field("tenant")
        except FieldDoesNotExist:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Told:
    """A step, and the row that tells it."""

    step: Step
    source: str
    row: Any

    @property
    def cursor(self) -> Cursor:
        """Its place in the story."""
        return Cursor(self.step.at, self.source, self.row.pk)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the story: steps of the same moment are in the order of their sources, then of their rows."""

    at: datetime
    source: str
    pk: int

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.source}~{self.pk}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read what ``str`` wrote; ``None`` for anything else."""
        moment, _, rest = text.partition("~")
        source, _, pk = rest.partition("~")
        if len(pk) > _PK_DIGITS or not pk.isdecimal():
            return None
        try:
            at = parse_datetime(moment)
        except ValueError:
            return None
        if at is None or not at.tzinfo or not MINYEAR < at.year < MAXYEAR:  # there an offset leads out of the calendar
            return None
        return cls(at, source, int(pk))


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a story. ``next`` is where the rest begins; ``hidden`` are the models that were not read."""

    steps: tuple[Told, ...]
    next: Cursor | None
    hidden: tuple[type[Model], ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks: which models they may see, and in the name of which tenant; ``None`` is everybody's."""

    may_view: Callable[[type[Model]], bool]
    tenant: str | None = None


sources: Registry[Source] = Registry("trail source")


def source(name: str, made: Source) -> Source:
    """Let ``made`` tell its part of every story. ``name`` is dotted and begins with the label of the app."""
    return sources.add(name, made, origin=caller())


def page(correlation_id: str, reader: Reader, *, after: Cursor | None = None, limit: int = PAGE) -> Page:
    """Return at most ``limit`` steps of a story, from its beginning or behind ``after``."""
    readable, hidden = _readable(correlation_id, reader)
    found: list[Told] = []
    for name, each in readable:
        rows = _behind(_of_tenant(each, each.rows(correlation_id), reader), each, name, after)
        found += [Told(each.step(row), name, row) for row in rows.order_by(each.at, "pk")[: limit + 1]]
    found.sort(key=lambda told: told.cursor)
    kept = found[:limit]
    return Page(tuple(kept), kept[-1].cursor if len(found) > limit else None, hidden)


def steps(correlation_id: str, reader: Reader) -> Iterator[Told]:
    """Yield the whole story, a page at a time."""
    after: Cursor | None = None
    while True:
        part = page(correlation_id, reader, after=after)
        yield from part.steps
        after = part.next
        if after is None:
            return


def find(text: str, reader: Reader) -> str | None:
    """Return the correlation id that ``text`` is, or that a row has which ``text`` identifies."""
    known = [(name, each) for name, each in _named() if reader.may_view(each.model)]
    for _name, each in known:
        if _of_tenant(each, each.rows(text), reader).exists():
            return text
    for _name, each in known:
        for column in each.identifiers:
            found = _correlation_of(each, column, text, reader)
            if found:
                return found
    return None


def _correlation_of(each: Source, column: str, text: str, reader: Reader) -> str | None:
    try:
        rows = _of_tenant(each, each.model._default_manager.filter(**{column: text}), reader)
    except (ValidationError, ValueError):  # not a UUID, not a number
        return None
    found: str | None = rows.exclude(correlation_id="").values_list("correlation_id", flat=True).first()
    return found


def _named() -> list[tuple[str, Source]]:
    return [(name, sources[name]) for name in sources.names()]


def _readable(correlation_id: str, reader: Reader) -> tuple[list[tuple[str, Source]], tuple[type[Model], ...]]:
    """Divide the sources by whether ``reader`` may see their rows of this story."""
    mixed = reader.tenant is not None and _is_foreign(correlation_id, reader.tenant)
    kept, hidden = [], dict[type[Model], None]()
    for name, each in _named():
        if reader.may_view(each.model) and (each.has_tenant or not mixed):
            kept.append((name, each))
        else:
            hidden[each.model] = None
    return kept, tuple(hidden)


def _is_foreign(correlation_id: str, tenant: str) -> bool:
    """Whether somebody else has a part in the story: then rows that name no tenant may be theirs."""
    return any(each.rows(correlation_id).exclude(tenant=tenant).exists() for _name, each in _named() if each.has_tenant)


def _of_tenant(each: Source, rows: QuerySet[Any], reader: Reader) -> QuerySet[Any]:
    return rows if reader.tenant is None or not each.has_tenant else rows.filter(tenant=reader.tenant)


def _behind(rows: QuerySet[Any], each: Source, name: str, after: Cursor | None) -> QuerySet[Any]:
    if after is None:
        return rows
    later = Q(**{f"{each.at}__gt": after.at})
    if name == after.source:
        return rows.filter(later | Q(**{each.at: after.at, "pk__gt": after.pk}))
    return rows.filter(later | Q(**{each.at: after.at})) if name > after.source else rows.filter(later)
