"""Messaging in the admin."""

from . import deadletters, events, handlers, partitions, queues, topology  # noqa: F401  # they register themselves
