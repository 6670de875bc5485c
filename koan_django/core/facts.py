"""What was chosen, and why: every automatic choice keeps its reason.

A fact says what was selected for a subject, for which reason, and what else there was. Apps register *sources*, which
are asked; a choice that took some effort is *recorded* by whoever made it. A process knows its own facts, and publishes
them as rows that live as long as it does, so that every other process can show them. No fact holds a secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from .process import identity
from .redaction import redact_text
from .registry import Registry, place_of

if TYPE_CHECKING:
    from .querysets import ProcessFactQuerySet

#: How long the facts of a process count that says nothing more.
TTL = timedelta(seconds=30)
#: How long after their end the facts of a process are kept.
REMEMBERED = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Alternative:
    """What might have been selected, and why it was not."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What was selected for ``subject``, a dotted name, and why."""

    subject: str
    selection: str
    reason: str = ""
    alternatives: tuple[Alternative, ...] = ()


Source = Callable[[], Iterable[Fact]]
_sources: Registry[Source] = Registry("fact source")
_recorded: dict[str, Fact] = {}
#: The process that has published, and what.
_published: tuple[int, tuple[Fact, ...]] = (0, ())


def source(name: str) -> Callable[[Source], Source]:
    """Ask the function whenever somebody wants the facts of this process. It opens no socket and asks no database."""

    def decorate(function: Source) -> Source:
        return _sources.add(name, function, origin=place_of(function))

    return decorate


def record(fact: Fact) -> None:
    """Keep ``fact`` as the one of its subject in this process."""
    _recorded[fact.subject] = _safe(fact)


def forget(subject: str) -> None:
    """Drop the recorded fact of ``subject``."""
    _recorded.pop(subject, None)


def own() -> tuple[Fact, ...]:
    """Return the facts of this process, by subject. A recorded one stands before one of a source."""
    found = {fact.subject: fact for name in _sources.names() for fact in _ask(name)}
    return tuple(fact for _, fact in sorted((found | _recorded).items()))


def publish(ttl: timedelta = TTL) -> None:
    """Let other processes know the facts of this one for ``ttl``. What is known already costs one UPDATE."""
    global _published
    known, facts, rows = _published, own(), _rows()
    mine = rows.filter(reporter=identity())
    expires_at = timezone.now() + ttl
    if known == (os.getpid(), facts) and mine.update(expires_at=expires_at):
        return
    with transaction.atomic(using=rows.db):
        rows.forgotten(timezone.now(), REMEMBERED).delete()
        mine.exclude(subject__in=[fact.subject for fact in facts]).delete()
        rows.record(facts, identity(), expires_at)
    _published = (os.getpid(), facts)


def retract() -> None:
    """Take back the facts of this process: it is about to stop."""
    global _published
    _published = (0, ())
    _rows().filter(reporter=identity()).delete()


def of_all() -> dict[str, list[Fact]]:
    """Return the facts of every process that lives, by its name."""
    found: dict[str, list[Fact]] = {}
    for row in _rows().current(timezone.now()):
        alternatives = tuple(Alternative(**each) for each in row.alternatives)
        found.setdefault(row.reporter, []).append(Fact(row.subject, row.selection, row.reason, alternatives))
    return found


def _ask(name: str) -> list[Fact]:
    try:
        return [_safe(fact) for fact in _sources[name]()]
    except Exception as error:  # a choice that cannot be explained must not hide the others
        return [Fact(name, "unknown", f"{type(error).__name__}: {redact_text(str(error))}")]


def _safe(fact: Fact) -> Fact:
    """The same without secrets, and no longer than its columns."""
    alternatives = tuple(Alternative(redact_text(a.name), redact_text(a.reason)) for a in fact.alternatives)
    return Fact(fact.subject, redact_text(fact.selection)[:500], redact_text(fact.reason)[:1000], alternatives)


def _rows() -> ProcessFactQuerySet:
    from .models import ProcessFact

    return ProcessFact.objects.all()
