"""Election of a provider: candidates in the order of their priority, each asked whether it is live.

The best that answers is selected, and every other keeps the reason why it was not. While there is a better one that did
not answer, the election is held again: after 2, 4, 6, 8 and 10 seconds, and so on from the beginning.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.db import router
from django.utils import timezone

from .facts import Alternative, Fact
from .policy import announce
from .process import identity
from .redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .querysets import ElectionQuerySet

T = TypeVar("T")

TRIES = 5
WAIT_SECONDS = 2.0
PROBE_SECONDS = 5.0
#: How long what a process has elected counts for the others without a sign of life.
TTL = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """Something that may be elected. ``name`` and ``origin``, where it comes from, hold no secret."""

    name: str
    value: T = field(repr=False)
    priority: int
    origin: str


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What was elected, if any candidate was live. ``is_settled`` when no better one is left to wait for."""

    selected: Candidate[T] | None
    alternatives: tuple[Alternative, ...]
    is_settled: bool

    def fact(self, subject: str) -> Fact:
        """Return the choice with its reasons."""
        if self.selected is None:
            return Fact(subject, "none", "no candidate is live", self.alternatives)
        reason = f"{self.selected.origin}, priority {self.selected.priority}"
        return Fact(subject, self.selected.name, reason, self.alternatives)


class Election(Generic[T]):
    """Elects among ``candidates``; of the same priority the first wins.

    ``probe`` raises unless its candidate is live. It runs on a thread of its own, and counts as silent after
    ``timeout`` seconds.
    """

    def __init__(
        self, candidates: Sequence[Candidate[T]], probe: Callable[[T], object], *, timeout: float = PROBE_SECONDS
    ) -> None:
        self.candidates = sorted(candidates, key=lambda each: -each.priority)
        self._probe = probe
        self._timeout = timeout

    def hold(self) -> Result[T]:
        """Ask the candidates until one is live."""
        refused: list[Alternative] = []
        for place, candidate in enumerate(self.candidates):
            trouble = self._ask(candidate)
            if trouble is None:
                rest = (Alternative(each.name, f"{candidate.name} is live") for each in self.candidates[place + 1 :])
                return Result(candidate, (*refused, *rest), is_settled=place == 0)
            refused.append(Alternative(candidate.name, trouble))
        return Result(None, tuple(refused), is_settled=not self.candidates)

    def rounds(self, pause: Callable[[float], object]) -> Iterator[Result[T]]:
        """Hold the election again and again until it is settled.

        ``pause`` waits for so many seconds, and ends the election by a true answer.
        """
        for attempt in cycle(range(1, TRIES + 1)):
            result = self.hold()
            yield result
            if result.is_settled or pause(WAIT_SECONDS * attempt):
                return

    def _ask(self, candidate: Candidate[T]) -> str | None:
        """Why ``candidate`` is not live, or ``None``."""
        answer: list[str | None] = []

        def ask() -> None:
            try:
                self._probe(candidate.value)
                answer.append(None)
            except Exception as error:
                answer.append(redact_text(f"{type(error).__name__}: {error}"))

        thread = threading.Thread(target=ask, name="koan-probe", daemon=True)
        thread.start()
        thread.join(self._timeout)
        return answer[0] if answer else f"no answer within {self._timeout:g} s"


def proclaim(subject: str, elected: Candidate[Any], place: int) -> bool:
    """Let other processes follow what was elected, for :data:`TTL`; return whether they do.

    ``place`` is that among the candidates of its priority, from 0. As long as something better was proclaimed by
    somebody who is alive, that stands.
    """
    rows = _rows()
    now = timezone.now()
    mine = {"alive_until": now + TTL, "elected_by": identity()}
    if rows.filter(subject=subject, selection=elected.name).update(**mine):
        return True
    rank = {"priority": elected.priority, "place": place}
    rows.bulk_create([rows.model(subject=subject, elected_at=now, alive_until=now)], ignore_conflicts=True)
    weaker = rows.filter(subject=subject).weaker(now, **rank)
    if not weaker.update(selection=elected.name, elected_at=now, **mine, **rank):
        return False
    announce(f"election of {subject}: {elected.name}")
    return True


def proclaimed(subject: str) -> str:
    """Return what was elected last for ``subject``, or nothing. It stays elected when nobody is alive any more."""
    return _rows().filter(subject=subject).values_list("selection", flat=True).first() or ""


def _rows() -> ElectionQuerySet:
    from .models import Election as Row

    return Row.objects.using(router.db_for_write(Row))
