"""Reads the chain from its beginning and says what does not fit. It holds one batch at a time.

It finds an event that was changed, deleted, added, put under another seal or exchanged with another, and a seal that
was changed, deleted, added or moved. It cannot find that the *end* of the chain was cut off together with its events:
for that, note the head somewhere else and give it to the next run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from django.db.models import Exists, OuterRef

from koan_django.core.texts import counted

from .canonical import COLUMNS, FORMAT, GENESIS, digest, is_same, seal_hash
from .forgetting import ACTION, Anchor
from .keys import NO_KEY, key_ring
from .models import AuditEvent, AuditSeal
from .reading import UNREADABLE, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .keys import KeyRing

    Progress = Callable[[AuditSeal], None]

Kind = Literal["event", "seal", "chain", "key", "head", "retention"]
#: Findings that are kept; a chain that is broken everywhere needs no longer list.
FINDINGS = 1000
#: Seals read in one go.
SEALS = 50
#: Events without a seal that are read in one go.
EVENTS = 1000
#: Ids that a finding names.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit. ``seal`` is the number of the seal it was found at."""

    kind: Kind
    text: str
    seal: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain as it was noted somewhere else."""

    number: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read ``number:hash``, as :func:`verify` reports it; raises ``ValueError``."""
        number, separator, value = text.partition(":")
        if not separator or not number.isdecimal() or len(value) != 64:
            raise ValueError(f"{text!r} is not a head: it is written as number:hash, with 64 hexadecimal digits")
        return cls(int(number), value.lower())


@dataclass(slots=True)
class Report:
    """What was read, and what did not fit. ``waiting`` events have no seal yet, so nothing is known about them."""

    seals: int = 0
    events: int = 0
    waiting: int = 0
    forgotten_through: int = 0
    head: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """Whether everything fits."""
        return not self.findings

    def found(self, kind: Kind, text: str, seal: int | None = None) -> None:
        """Keep a finding."""
        if len(self.findings) < FINDINGS:
            self.findings.append(Finding(kind, text, seal))


def verify(head: Head | None = None, *, unkeyed_through: int = 0, progress: Progress | None = None) -> Report:
    """Verify the whole chain.

    ``head`` is an end that was noted before: it must be part of the chain still. Seals up to ``unkeyed_through`` may
    stand without a key though there is one now: they are from before.
    """
    while True:
        begun = _newest_anchor()
        report = _Walk(key_ring(), head, unkeyed_through, progress).run(begun)
        if report.is_intact or _newest_anchor() == begun:
            return report  # else retention took away the beginning meanwhile: read again


class _Walk:
    """One pass over the chain."""

    def __init__(self, keys: KeyRing, head: Head | None, unkeyed_through: int, progress: Progress | None) -> None:
        self._keys = keys
        self._noted = head
        self._unkeyed_through = unkeyed_through
        self._progress = progress
        self._report = Report()
        self._noted_seen = False

    def run(self, begun: Anchor | None) -> Report:
        report = self._report
        number, previous = self._beginning(begun)
        for seal in _seals():
            self._link(seal, number, previous)
            self._content(seal)
            number, previous = seal.number + 1, seal.hash
            report.seals, report.events = report.seals + 1, report.events + seal.count
            report.head = f"{seal.number}:{seal.hash}"
            if self._progress is not None:
                self._progress(seal)
        self._waiting()
        self._sealless()
        self._compare_head()
        return report

    def _beginning(self, begun: Anchor | None) -> tuple[int, str]:
        """Where the first seal has to stand, and what it has to follow."""
        if begun is None:
            return 1, GENESIS
        self._report.forgotten_through = begun.through
        key = self._keys.get(begun.key_id)
        if key is None or (begun.key_id == NO_KEY and self._keys.current and begun.through > self._unkeyed_through):
            self._report.found("key", f"that seals 1 to {begun.through} were forgotten is not proven by a known key")
        elif not is_same(begun.expected(key), begun.proof):
            self._report.found("retention", f"that seals 1 to {begun.through} were forgotten is not proven")
        return begun.through + 1, begun.hash

    def _link(self, seal: AuditSeal, number: int, previous: str) -> None:
        """The seal follows the one before it, and is what it was when it was made."""
        report, at = self._report, seal.number
        if seal.number > number:
            last = seal.number - 1
            report.found("chain", f"{'seal' if last == number else 'seals'} {_span(number, last)} missing", at)
        elif seal.number < number:
            report.found("chain", f"seal {seal.number} was forgotten by retention, and is here", at)
        if not is_same(seal.previous, previous):
            report.found("chain", f"seal {seal.number} does not follow the one before it", at)
        self._own_hash(seal)
        if self._noted is not None and self._noted.number == seal.number:
            self._noted_seen = True
            if not is_same(self._noted.hash, seal.hash):
                report.found("head", f"seal {seal.number} is not the one that was noted", at)

    def _own_hash(self, seal: AuditSeal) -> None:
        if seal.format != FORMAT:
            self._report.found("seal", f"seal {seal.number} has the unknown format {seal.format}", seal.number)
            return
        key = self._keys.get(seal.key_id)
        if key is None:
            text = f"seal {seal.number} was made with the key {seal.key_id}, which is not in KEY or OLD_KEYS"
            self._report.found("key", text, seal.number)
        elif not is_same(seal_hash(seal, key), seal.hash):
            self._report.found("seal", f"seal {seal.number} was changed", seal.number)
        if seal.key_id == NO_KEY and self._keys.current and seal.number > self._unkeyed_through:
            text = f"seal {seal.number} was made without a key; if there was none then, say so with --unkeyed-through"
            self._report.found("key", text, seal.number)

    def _content(self, seal: AuditSeal) -> None:
        """Its events are as many as they were, and say what they said."""
        events = AuditEvent.objects.all().primary().filter(seal=seal)
        what = f"seal {seal.number} (events {seal.first_id} to {seal.last_id})"
        try:
            rows = list(events.order_by("id").values_list(*COLUMNS))
            said = digest(rows)
        except UNREADABLE:
            self._report.found("event", f"an event cannot be read in {what}, so it was changed", seal.number)
            return
        if len(rows) < seal.count:
            missing = seal.count - len(rows)
            self._report.found("event", f"{missing} of {seal.count} events are missing of {what}", seal.number)
        elif len(rows) > seal.count:
            self._report.found(
                "event", f"{counted(len(rows) - seal.count, 'event was', 'events were')} added to {what}", seal.number
            )
        elif not is_same(said, seal.digest):
            self._report.found("event", f"an event was changed or exchanged in {what}", seal.number)

    def _waiting(self) -> None:
        """Count what has no seal yet, and find what never gets one."""
        for page in pages(AuditEvent.objects.all().primary().unsealed(), EVENTS):
            self._report.waiting += len(page.rows) + len(page.unreadable)
            if page.unreadable:
                text = (
                    f"{counted(len(page.unreadable), 'event')} without a seal cannot be read: {_some(page.unreadable)}"
                )
                self._report.found("event", text)

    def _sealless(self) -> None:
        """Find events that no seal in the table covers: added by hand, or left by one that was deleted."""
        there = AuditSeal.objects.filter(pk=OuterRef("seal_id"))
        events = AuditEvent.objects.all().primary().filter(~Exists(there), seal_id__isnull=False)
        count = events.count()
        if count:
            ids = list(events.order_by("id").values_list("id", flat=True)[:NAMED])
            self._report.found(
                "event", f"{counted(count, 'event is', 'events are')} under a seal that does not exist: {_some(ids)}"
            )

    def _compare_head(self) -> None:
        noted = self._noted
        if noted is None or self._noted_seen:
            return
        if noted.number <= self._report.forgotten_through:
            text = f"the noted seal {noted.number} was forgotten by retention: note a newer one"
        else:
            text = f"the chain was cut off: the noted seal {noted.number} is missing"
        self._report.found("head", text)


def _seals() -> Iterator[AuditSeal]:
    """Yield the seals in their order, some at a time."""
    seals = AuditSeal.objects.all().primary().order_by("number")
    rest = seals
    while page := list(rest[:SEALS]):
        yield from page
        rest = seals.filter(number__gt=page[-1].number)


def _newest_anchor() -> Anchor | None:
    data = AuditEvent.objects.all().primary().filter(action=ACTION).order_by("-id").values_list("data", flat=True)
    try:
        found = data.first()
    except UNREADABLE:  # the chain then has to be whole, or its beginning is found missing
        return None
    return None if found is None else Anchor.of(found)


def _some(ids: Sequence[int]) -> str:
    return ", ".join(str(each) for each in ids[:NAMED])


def _span(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"
