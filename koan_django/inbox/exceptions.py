"""Errors of the inbox."""

from __future__ import annotations

from typing import ClassVar

from koan_django.core.exceptions import KoanError, StoreUnavailableError


class InboxError(KoanError):
    """Base of the inbox's errors."""


class InboxBusyError(InboxError):
    """Another worker is handling the same key now."""

    transient: ClassVar[bool] = True


class ServiceNotFoundError(StoreUnavailableError, InboxError):
    """No service of the inbox answers to the name that is looked for."""


class ServiceConflictError(StoreUnavailableError, InboxError):
    """Services that remember apart announce one name: duplicates would be missed."""
