"""Health as facts with a time to live.

A process *reports* a fact about itself; others read it from the store (rows, unless the settings say otherwise) until
it expires. A *probe* is asked when somebody wants to know whether this very process is ready. A fact that expired says
``unknown``, never ``healthy``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import clock
from .exceptions import StoreUnavailableError
from .process import identity
from .redaction import redact
from .registry import Registry, place_of
from .stores import Fact, health_store
from .stores import Status as Status

if TYPE_CHECKING:
    from .stores import KnownFact

TTL = timedelta(seconds=30)
MIN_TTL, MAX_TTL = timedelta(seconds=1), timedelta(minutes=15)
MESSAGE_LENGTH, DATA_BYTES = 2048, 4096
#: How long after its end a fact is kept to be shown as unknown.
REMEMBERED = timedelta(minutes=5)
#: Readiness is asked several times a second by some load balancers; the dependencies are not.
PROBE_CACHE_SECONDS = 2.0

_ORDER: Mapping[str, int] = {"healthy": 0, "unknown": 1, "degraded": 2, "unhealthy": 3}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe or a fact says; ``remedy`` is what to do about it."""

    name: str
    status: Status
    message: str = ""
    critical: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Several findings and what they amount to."""

    status: Status
    findings: tuple[Finding, ...]


Probe = Callable[[], "Finding | None"]
_probes: Registry[tuple[Probe, bool]] = Registry("readiness probe")
Shared = Callable[[], "Iterable[Finding]"]
_shared: Registry[Shared] = Registry("shared health finding")
_cache: dict[str, tuple[float, Finding]] = {}
_lock = threading.Lock()


def report(
    name: str,
    status: Status,
    message: str = "",
    *,
    critical: bool = False,
    ttl: timedelta = TTL,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Say how ``name`` is, as seen by this process. It counts for ``ttl`` (1 s to 15 min)."""
    fact = Fact(
        name=name,
        reporter=identity(),
        status=status,
        critical=critical,
        message=str(redact(message))[:MESSAGE_LENGTH],
        data=_bounded(data or {}),
    )
    health_store().record(fact, min(max(ttl, MIN_TTL), MAX_TTL))


def retract(names: Iterable[str] | None = None) -> None:
    """Take back what this process said (all of it without ``names``): it is about to stop."""
    health_store().retract(identity(), names)


def probe(name: str, *, critical: bool = True) -> Callable[[Probe], Probe]:
    """Ask the function before this process is called ready. It returns a finding, or ``None`` for healthy.

    An exception is an unhealthy finding. A critical probe that is unhealthy makes the process not ready.
    """

    def decorate(function: Probe) -> Probe:
        _probes.add(name, (function, critical), origin=place_of(function))
        return function

    return decorate


def shared(name: str) -> Callable[[Shared], Shared]:
    """Ask the function for findings about all processes together whenever these are summed up."""

    def decorate(function: Shared) -> Shared:
        return _shared.add(name, function, origin=place_of(function))

    return decorate


def ready() -> Report:
    """Ask the probes of this process; answers are kept for two seconds."""
    return summarise(_ask(name) for name in _probes.names())


def aggregate() -> Report:
    """Sum up the facts of all processes. A fact that expired counts only where nobody renewed it under its name.

    When their store does not answer, that is the finding. The database is no such store: its errors are raised.
    """
    try:
        known = health_store().facts(REMEMBERED)
        common = [finding for ask in _shared for finding in ask()]
    except StoreUnavailableError as error:
        return summarise([Finding("health", "unhealthy", str(redact(str(error))), critical=True)])
    fresh = {each.fact.name for each in known if not each.expired}
    reported = (_finding(each) for each in known if not each.expired or each.fact.name not in fresh)
    return summarise([*reported, *common])


def summarise(findings: Iterable[Finding]) -> Report:
    """Sum up: a critical one that is unhealthy or unknown makes the whole unhealthy, any other trouble degraded."""
    found = tuple(findings)
    worst: Status = "healthy"
    for finding in found:
        counted: Status = finding.status
        if finding.status == "unknown":
            counted = "unhealthy" if finding.critical else "degraded"
        elif finding.status == "unhealthy" and not finding.critical:
            counted = "degraded"
        if _ORDER[counted] > _ORDER[worst]:
            worst = counted
    return Report(worst, found)


def _ask(name: str) -> Finding:
    function, critical = _probes[name]
    with _lock:
        kept = _cache.get(name)
    if kept is not None and clock.monotonic() - kept[0] < PROBE_CACHE_SECONDS:
        return kept[1]
    try:
        found = function() or Finding(name, "healthy")
    except Exception as error:  # a probe that fails is the finding
        found = Finding(name, "unhealthy", f"{type(error).__name__}: {redact(str(error))}")
    found = Finding(name, found.status, found.message, critical, found.data, found.remedy)
    with _lock:
        _cache[name] = (clock.monotonic(), found)
    return found


def _finding(known: KnownFact) -> Finding:
    fact = known.fact
    if known.expired:
        text = f"{fact.reporter} has not reported since {known.reported_at:%H:%M:%S}"
        return Finding(fact.name, "unknown", text, fact.critical)
    return Finding(fact.name, fact.status, fact.message, fact.critical, fact.data)


def _bounded(data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = redact(data)
    if len(json.dumps(kept, default=str)) > DATA_BYTES:
        return {"truncated": f"more than {DATA_BYTES} bytes"}
    return kept
