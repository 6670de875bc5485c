"""Names and arguments of what is declared on RabbitMQ.

Durations are part of a queue's name: the broker refuses a declaration whose arguments differ from the queue's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.messaging.routing import binding_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

#: Counts every redelivery, those of dropped connections too, so it only catches a message that ends whole workers.
#: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
DELIVERY_LIMIT = 100
#: RabbitMQ 4 has a limit of 20 where none is given, and drops what exceeds it where there are no dead letters.
NEVER = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Names:
    """The names on one bus."""

    prefix: str

    @property
    def exchange(self) -> str:
        """The topic exchange that messages are published to."""
        return self.prefix

    def group(self, group: str) -> str:
        """The queue of a group."""
        return f"{self.prefix}.{group}"

    def dead(self, group: str) -> str:
        """The queue of what a group gave up on."""
        return f"{self.prefix}.{group}.dead"

    def retry(self, wait: timedelta) -> str:
        """The exchange and queue where messages wait before another attempt."""
        return f"{self.prefix}.retry.{wait.total_seconds():g}"


def declare_exchange(channel: Any, names: Names) -> None:
    """Declare the exchange that publishers need."""
    channel.exchange_declare(names.exchange, "topic", durable=True, auto_delete=False)


def declare_group(channel: Any, names: Names, group: str, bindings: Iterable[str]) -> None:
    """Declare a group's queue with its bindings, and the queue of its dead letters."""
    channel.queue_declare(
        names.dead(group),
        durable=True,
        auto_delete=False,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": NEVER},
    )
    channel.queue_declare(
        names.group(group),
        durable=True,
        auto_delete=False,
        arguments={
            **_at_least_once(),
            "x-dead-letter-routing-key": names.dead(group),
            "x-delivery-limit": DELIVERY_LIMIT,
        },
    )
    for pattern in bindings:
        channel.queue_bind(names.group(group), names.exchange, binding_key(pattern))


def declare_retries(channel: Any, names: Names, waits: Sequence[timedelta]) -> None:
    """Declare a bucket for each wait.

    A message is published to the bucket's exchange with the failing group's queue as routing key and keeps it, so when
    its time is over the default exchange hands it to that queue only.
    """
    for wait in waits:
        name = names.retry(wait)
        channel.exchange_declare(name, "fanout", durable=True, auto_delete=False)
        arguments = {**_at_least_once(), "x-message-ttl": int(wait.total_seconds() * 1000)}
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(name, name, "")


def _at_least_once() -> dict[str, Any]:
    """Dead-lettering that loses nothing needs the strategy and the overflow together.

    https://www.rabbitmq.com/docs/quorum-queues#activating-at-least-once-dead-lettering
    """
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
