"""Messaging in the admin."""

from . import deadletters, events, handlers, queues  # noqa: F401  # they register themselves
