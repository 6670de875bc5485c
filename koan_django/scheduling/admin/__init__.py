"""Scheduling in the admin, and django-celery-beat's own screens with permissions on their actions."""

from . import beat, runs, tasks  # noqa: F401  # they register themselves
