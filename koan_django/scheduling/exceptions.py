"""Errors of scheduled tasks."""

from __future__ import annotations

from koan_django.core.exceptions import KoanError, PermanentError, TransientError


class SchedulingError(KoanError):
    """Base of the errors of this app."""


class DeclarationError(SchedulingError, PermanentError):
    """What ``@scheduled`` was put on, or an option of it, cannot work."""


class UnknownTaskError(SchedulingError, PermanentError):
    """There is no scheduled task of this name."""


class BusyError(SchedulingError, TransientError):
    """The task has as many runs under way as it may have."""


class RunCancelledError(SchedulingError, TransientError):
    """The run should end: its time is over, or somebody else does the work now."""
