"""Who receives what, as the consumers have written it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koan_django.messaging.routing import matches

from . import scripts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from koan_django.messaging.envelope import Envelope

    from .names import Names
    from .server import Server


@dataclass(frozen=True, slots=True)
class Bindings:
    """The patterns of each group at one ``version``."""

    version: str
    patterns: dict[str, frozenset[str]]
    _found: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def receivers(self, envelope: Envelope) -> tuple[str, ...]:
        """Return the groups that get a message."""
        if envelope.group:
            return (envelope.group,) if envelope.group in self.patterns else ()
        found = self._found.get(envelope.alias)
        if found is None:
            found = self._found[envelope.alias] = tuple(sorted(self._matching(envelope.alias)))
        return found

    def _matching(self, alias: str) -> Iterable[str]:
        for group, patterns in self.patterns.items():
            if any(matches(pattern, alias) for pattern in patterns):
                yield group


#: What is known before anybody has asked; no version of Redis' is called so.
NONE = Bindings("?", {})


def read(server: Server, names: Names) -> Bindings:
    """Ask Redis."""
    version, members = server.run(scripts.BINDINGS, [names.bindings, names.version])
    patterns: dict[str, set[str]] = {}
    for member in members:
        group, _, pattern = member.decode().partition(" ")
        patterns.setdefault(group, set()).add(pattern)
    return Bindings(version.decode(), {group: frozenset(found) for group, found in patterns.items()})


def bind(server: Server, names: Names, group: str, patterns: Iterable[str]) -> None:
    """Make the streams of ``group``, and have it receive ``patterns`` as well."""
    keys = [*names.streams(group), names.bindings, names.version, names.later(group)]
    server.run(scripts.BIND, keys, group, *sorted(set(patterns)))
