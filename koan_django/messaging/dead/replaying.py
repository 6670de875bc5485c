"""Replays and discards many dead letters: those that a selection names, in batches, at a rate, with flat memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Max, Min

from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact_text

from . import deadletters

if TYPE_CHECKING:
    from koan_django.messaging.models import DeadLetter
    from koan_django.messaging.querysets import DeadLetterQuerySet

BATCH = 200
#: What a selection compares with a column of the same name.
NAMES = ("bus", "group", "alias", "handler", "reason", "fingerprint", "tenant")
#: Failures that are told by name; the rest is counted.
TOLD = 20

Act = Callable[[list["DeadLetter"]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters. Everything given must hold; nothing given means all of them."""

    ids: tuple[int, ...] = ()
    bus: str = ""
    group: str = ""
    alias: str = ""
    handler: str = ""
    reason: str = ""
    fingerprint: str = ""
    tenant: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is given."""
        return not any(getattr(self, each.name) for each in fields(self))

    def unknown(self) -> list[tuple[str, str]]:
        """Return each name and value that no dead letter on record has, settled ones included."""
        from koan_django.messaging.models import DeadLetter

        recorded = DeadLetter.objects.all().primary()
        given = [(name, name, getattr(self, name)) for name in NAMES if getattr(self, name) and name != "reason"]
        given += [("id", "pk", pk) for pk in self.ids]
        return [(name, str(value)) for name, field, value in given if not recorded.filter(**{field: value}).exists()]

    def rows(self) -> DeadLetterQuerySet:
        """Return what is selected and still dead."""
        from koan_django.messaging.models import DeadLetter

        found = DeadLetter.objects.all().primary().dead()
        for name in NAMES:
            if value := getattr(self, name):
                found = found.filter(**{name: value})
        if self.ids:
            found = found.filter(pk__in=self.ids)
        if self.since:
            found = found.filter(dead_at__gte=self.since)
        return found.filter(dead_at__lt=self.until) if self.until else found


@dataclass(frozen=True, slots=True)
class Cause:
    """Dead letters with one fingerprint: the same handler, the same error, raised at the same place."""

    fingerprint: str
    group: str
    handler: str
    reason: str
    error_type: str
    count: int
    first: datetime
    last: datetime
    #: The error of the newest.
    example: str


@dataclass(slots=True)
class Progress:
    """How far it is. ``failed`` are those that were left as they are, ``errors`` says why for some of them."""

    done: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    stopped: bool = False

    def fail(self, dead: DeadLetter, error: Exception) -> None:
        """Count a dead letter that could not be moved."""
        self.failed += 1
        if len(self.errors) < TOLD:
            self.errors.append(f"{dead.pk} {dead}: {redact_text(str(error))}")


def causes(selection: Selection) -> list[Cause]:
    """Return what the selected dead letters died of, the most frequent first."""
    found = (
        selection.rows()
        .values("fingerprint", "group", "handler", "reason", "error_type")
        .annotate(count=Count("pk"), first=Min("dead_at"), last=Max("dead_at"), newest=Max("pk"))
        .order_by("-count", "fingerprint")
    )
    rows: list[dict[str, Any]] = [dict(row) for row in found]
    newest = [row.pop("newest") for row in rows]
    errors = dict(selection.rows().filter(pk__in=newest).values_list("pk", "error"))
    return [Cause(**row, example=errors.get(pk, "")) for row, pk in zip(rows, newest, strict=True)]


def replay_all(selection: Selection, *, forgotten: bool = False, **options: Any) -> Progress:
    """Send what is selected to its groups again, oldest first; see :func:`_all` for the other options."""
    return _all(selection, partial(deadletters.replay_batch, forgotten=forgotten), **options)


def discard_all(selection: Selection, **options: Any) -> Progress:
    """Give up what is selected; see :func:`_all` for the options."""
    return _all(selection, deadletters.discard_batch, **options)


def _all(
    selection: Selection,
    act: Act,
    *,
    limit: int | None = None,
    rate: float | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Act on at most ``limit``, at most ``rate`` a second, until ``is_stopping()``. A batch is one transaction.

    What cannot be moved is counted and left as it is, and holds up no other.
    """
    progress, began = Progress(), time.monotonic()
    for pks in _batches(selection, limit, rate):
        if is_stopping():
            progress.stopped = True
            break
        _batch(selection, pks, act, progress)
        tell(progress)
        while rate and (progress.done + progress.failed) / rate > time.monotonic() - began and not is_stopping():
            time.sleep(0.02)
    return progress


def _batches(selection: Selection, limit: int | None, rate: float | None) -> Iterator[list[int]]:
    """Yield primary keys, no more than a second's worth at a time. What dies meanwhile is not among them."""
    size = max(1, min(BATCH, int(rate or BATCH)))
    left, after = limit, 0
    newest = selection.rows().aggregate(newest=Max("pk"))["newest"]
    while newest and (left is None or left > 0):
        rows = selection.rows().filter(pk__gt=after, pk__lte=newest).order_by("pk")
        pks = list(rows.values_list("pk", flat=True)[: size if left is None else min(size, left)])
        if not pks:
            return
        yield pks
        after = pks[-1]
        left = None if left is None else left - len(pks)


def _batch(selection: Selection, pks: list[int], act: Act, progress: Progress) -> None:
    """Act on a batch, one by one where the batch as a whole is refused."""
    rows = list(selection.rows().filter(pk__in=pks).order_by("pk"))
    try:
        act(rows)
        progress.done += len(rows)
        return
    except KoanError as error:
        if len(rows) == 1:
            progress.fail(rows[0], error)
            return
    for row in rows:
        _batch(selection, [row.pk], act, progress)
