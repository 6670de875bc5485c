"""RabbitMQ: group queues, confirmed publishing, retry buckets, dead-letter queues."""

from .bus import AmqpBus

__all__ = ["AmqpBus"]
