"""Messaging in the admin."""

from . import deadletters, events, queues  # noqa: F401  # they register themselves
