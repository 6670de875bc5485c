"""The keys of a bus.

The prefix stands in braces, so that all keys of a bus are in one slot of a cluster and a script may use several.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Messages of a priority above this go to the stream that is read first.
ORDINARY_PRIORITY = 4


@dataclass(frozen=True, slots=True)
class Names:
    """The keys on one bus."""

    prefix: str

    @property
    def bindings(self) -> str:
        """A set of ``<group> <pattern>``: who receives what."""
        return f"{{{self.prefix}}}:bindings"

    @property
    def version(self) -> str:
        """Changes whenever the bindings do."""
        return f"{{{self.prefix}}}:bindings:version"

    @property
    def asleep(self) -> str:
        """Exists while a consumer waits for the bell."""
        return f"{{{self.prefix}}}:asleep"

    @property
    def bell(self) -> str:
        """The channel that tells waiting consumers that something has arrived."""
        return f"{{{self.prefix}}}:bell"

    def streams(self, group: str) -> tuple[str, str]:
        """The streams of a group: the ordinary one, and the urgent one that is read first."""
        return f"{{{self.prefix}}}:group:{group}", f"{{{self.prefix}}}:group:{group}:urgent"

    def stream(self, group: str, priority: int) -> str:
        """The stream of a group that takes a message of ``priority``."""
        return self.streams(group)[priority > ORDINARY_PRIORITY]

    def later(self, group: str) -> str:
        """The sorted set of what a group tries again, by time."""
        return f"{{{self.prefix}}}:group:{group}:later"
