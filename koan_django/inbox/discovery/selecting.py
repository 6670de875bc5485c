"""Selects one of the services that answered, the same one in every process that heard the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from koan_django.core.texts import one_line
from koan_django.inbox.exceptions import ServiceConflictError, ServiceNotFoundError

from .statements import PROTOCOL, Service

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Selection:
    """The service to ask, and the others in their order."""

    service: Service
    others: tuple[Service, ...] = ()


def select(name: str, services: Sequence[Service], avoid: str = "", *, unbelieved: str = "") -> Selection:
    """Select by protocol, priority and address, and the one at ``avoid``, which has failed, only if it is the only one.

    ``unbelieved`` is what was heard meanwhile and left out, for the error that says that none was found.
    Raises :class:`ServiceNotFoundError`, and :class:`ServiceConflictError` when they do not have one memory.
    """
    check_one_memory(name, services)
    usable = [each for each in services if 1 <= each.protocol <= PROTOCOL]
    if not usable and not services and unbelieved:
        raise ServiceNotFoundError(
            f"no inbox service {name!r} was found",
            why=f"what was heard is not believed: {unbelieved}",
            fix="Compare KEYS, TENANT, HOSTS and PREFIX in both projects, and the clocks of both machines.",
        )
    if not usable:
        raise ServiceNotFoundError(
            f"no inbox service {name!r} was found",
            why=f"those that answered speak a later protocol than {PROTOCOL}" if services else "nobody has answered",
            fix="Start one that announces this name with one of these keys on the same bus, or correct the name.",
        )
    first, *others = sorted(usable, key=lambda each: (each.url == avoid, -each.protocol, -each.priority, each.url))
    return Selection(first, tuple(others))


def check_one_memory(name: str, services: Sequence[Service]) -> None:
    """Raise :class:`ServiceConflictError` when services of one name remember apart: each would take for new what
    another has done.
    """
    firsts = {each.store: each for each in reversed(services)}
    if len(firsts) < 2:
        return
    known = " and ".join(sorted(described(each) for each in firsts.values()))
    raise ServiceConflictError(
        f"several inbox services are called {name!r}",
        why=f"they do not have one memory, so duplicates would be missed: {known}",
        fix="Give one of them another NAME, or the same STORE to those that remember in one place.",
    )


def described(service: Service) -> str:
    """Return where a service is, for people."""
    return one_line(f"{service.url} (store {service.store or 'of its own'}, announced by {service.instance})", 400)
