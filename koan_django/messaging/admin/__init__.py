"""Messaging in the admin."""

from . import deadletters, events, handlers, queues, topology  # noqa: F401  # they register themselves
