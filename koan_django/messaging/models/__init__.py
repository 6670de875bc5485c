"""The rows of messaging: what waits, what happened, and what could not be handled."""

from .deadletter import DeadLetter
from .delivery import QueuedDelivery
from .event import MessageEvent
from .outbox import OutboxMessage

__all__ = ["DeadLetter", "MessageEvent", "OutboxMessage", "QueuedDelivery"]
