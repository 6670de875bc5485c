"""How each handler stands: what its row, its breaker and the code of this process say together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from django.utils import timezone

from koan_django.core.stores import STORE_ERRORS, breaker_store
from koan_django.messaging import handlers
from koan_django.messaging.models import RegisteredHandler
from koan_django.messaging.objections import BREAKER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.core.circuits import Circuit

#: A worker says every half minute which handlers it has.
SILENT = timedelta(seconds=90)

State = Literal["running", "paused", "open", "half-open", "silent", "gone"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of one handler. ``breaker`` is the name of its breaker, if it has one."""

    row: RegisteredHandler
    state: State
    breaker: str = ""
    why: str = ""


def standings(rows: Iterable[RegisteredHandler]) -> list[Standing]:
    """Return how each of ``rows`` stands; the breakers are read once."""
    circuits = _circuits()
    return [_standing(row, circuits) for row in rows]


def is_gone(row: RegisteredHandler) -> bool:
    """Whether neither this process nor a worker that lives has a handler of that name."""
    return row.name not in {each.name for each in handlers.every()} and _is_silent(row)


def _standing(row: RegisteredHandler, circuits: dict[str, Circuit]) -> Standing:
    name = f"{BREAKER_PREFIX}{row.name}"
    circuit = circuits.get(name)
    declared = next((each for each in handlers.every() if each.name == row.name), None)
    breaker = name if circuit is not None or (declared is not None and declared.breaker is not None) else ""
    if row.paused:
        return Standing(row, "paused", breaker, f"by {row.paused_by}: {row.pause_reason}".rstrip(": "))
    if _is_silent(row):
        if declared is None:
            return Standing(row, "gone", breaker, "no code declares it any more")
        return Standing(row, "silent", breaker, f"no worker has had it since {row.last_seen:%Y-%m-%d %H:%M:%S}")
    if circuit is not None and circuit.state != "closed":
        return Standing(row, circuit.state, breaker, circuit.reason)
    return Standing(row, "running", breaker)


def _is_silent(row: RegisteredHandler) -> bool:
    return timezone.now() - row.last_seen > SILENT


def _circuits() -> dict[str, Circuit]:
    try:
        return breaker_store().circuits()
    except STORE_ERRORS:  # the page of breakers says so
        return {}
