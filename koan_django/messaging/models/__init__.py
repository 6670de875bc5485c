"""The rows of messaging: what waits, what happened, and what could not be handled."""

from .configured import ConfiguredBus
from .deadletter import DeadLetter
from .delivery import QueuedDelivery
from .event import MessageEvent
from .lane import OutboxLane, OutboxRelay
from .outbox import OutboxMessage
from .partition import Partition, PartitionWorker
from .registered import RegisteredHandler
from .samples import DepthSample, HandlerSample, Traffic
from .topology import Topology, TopologyObject

__all__ = [
    "ConfiguredBus",
    "DeadLetter",
    "DepthSample",
    "HandlerSample",
    "MessageEvent",
    "OutboxLane",
    "OutboxMessage",
    "OutboxRelay",
    "Partition",
    "PartitionWorker",
    "QueuedDelivery",
    "RegisteredHandler",
    "Topology",
    "TopologyObject",
    "Traffic",
]
