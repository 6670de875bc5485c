"""What ``koan_doctor`` asks. System checks open no socket; an *examination* does: it connects, writes and reads.

Apps register theirs. The answers are the findings of :mod:`.health`, each with its remedy; what readiness asks is asked
too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from . import facts, health
from .health import Finding
from .redaction import redact_text
from .registry import Registry, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Examination = Callable[[], Iterable[Finding]]
_examinations: Registry[Examination] = Registry("examination")

#: How ``koan_doctor`` ends by the worst finding, and what it calls each.
CODES = {"healthy": 0, "degraded": 1, "unknown": 1, "unhealthy": 2}
WORDS = {"healthy": "ok", "degraded": "warning", "unknown": "warning", "unhealthy": "error"}


def examination(name: str) -> Callable[[Examination], Examination]:
    """Have ``koan_doctor`` ask the function. An exception of its own is a finding too."""

    def decorate(function: Examination) -> Examination:
        return _examinations.add(name, function, origin=place_of(function))

    return decorate


def examine() -> list[Finding]:
    """Ask every examination and every readiness probe of this process."""
    found = [finding for name in _examinations.names() for finding in _ask(name)]
    ready = [replace(each, name=f"ready.{each.name}") for each in health.ready().findings]
    return [_complete(each) for each in (*found, *ready)]


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when all is well, 1 with a warning, 2 with an error."""
    return max((CODES[each.status] for each in findings), default=0)


def alive(role: str, remedy: str) -> Finding:
    """Return whether a process of ``role`` has given a sign of life lately."""
    found = sorted(name for name in facts.of_all() if name.endswith(f":{role}"))
    if found:
        return Finding(f"process.{role}", "healthy", ", ".join(found))
    return Finding(f"process.{role}", "degraded", f"no {role} has given a sign of life", remedy=remedy)


def _ask(name: str) -> Iterator[Finding]:
    try:
        yield from _examinations[name]()
    except Exception as error:  # one that fails is the finding, and hides no other
        text = f"{type(error).__name__}: {error}"
        yield Finding(name, "unhealthy", text, remedy="Mend what the message names, then ask again.")


def _complete(found: Finding) -> Finding:
    """The same without secrets, and with a remedy if it needs one."""
    remedy = found.remedy
    if found.status != "healthy" and not remedy:
        remedy = "Mend what the message names; until then this process is not called ready."
    return replace(found, message=redact_text(found.message), remedy=redact_text(remedy))
