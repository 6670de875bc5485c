"""Messaging in the admin."""

from . import (  # noqa: F401  # they register themselves
    buses,
    deadletters,
    events,
    handlers,
    lanes,
    partitions,
    queues,
    topology,
    traffic,
)
