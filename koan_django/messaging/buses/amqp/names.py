"""The names of what stands on RabbitMQ for one bus. Durations are part of them: changed arguments are refused there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True)
class Names:
    """The names on one bus, or in one section of it: a tenant's, or that of the tenants of a lane.

    Of its own a section has what messages are published to and handled from; dead letters and waits are the bus's.
    Groups and tenants have no dots in their names, so no two of these can be the same.
    """

    prefix: str
    section: str = ""

    @cached_property
    def exchange(self) -> str:
        """The topic exchange that messages are published to; asked for with each of them."""
        return f"{self.prefix}{self._section}"

    def group(self, group: str) -> str:
        """The queue of a group."""
        return f"{self.prefix}.{group}{self._section}"

    @property
    def direct(self) -> str:
        """The topic exchange of messages to one group, by the group and the partition word."""
        return f"{self.exchange}.to"

    def partition(self, group: str, number: int) -> str:
        """The queue of a partition of a group."""
        return f"{self.group(group)}.p{number}"

    def dead(self, group: str) -> str:
        """The queue of what a group gave up on."""
        return f"{self.prefix}.{group}.dead"

    def retry(self, wait: timedelta) -> str:
        """The exchange and queue where messages wait before another attempt."""
        return f"{self.prefix}.retry.{wait.total_seconds():g}"

    def delay(self, level: int) -> str:
        """The exchange and queue where delayed messages wait for 2 to the power of ``level`` seconds."""
        return f"{self.prefix}.delay.{level}"

    @property
    def delayed(self) -> str:
        """The topic exchange to which delayed messages come when their time is over."""
        return f"{self.prefix}.delayed"

    @property
    def orphans(self) -> str:
        """The exchange and queue of delayed messages that no group receives any more."""
        return f"{self.prefix}.orphans"

    @property
    def turn(self) -> str:
        """The queue of whoever removes or migrates something: no group and no tenant has an empty name."""
        return f"{self.prefix}..turn"

    @property
    def broadcast(self) -> str:
        """The topic exchange of what is said to whoever listens; with a dot and more, the queues of those who do."""
        return f"{self.prefix}..broadcast"

    @property
    def _section(self) -> str:
        return f".{self.section}" if self.section else ""
