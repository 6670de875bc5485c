"""Errors of the inbox."""

from __future__ import annotations

from typing import ClassVar

from koan_django.core.exceptions import KoanError


class InboxError(KoanError):
    """Base of the inbox's errors."""


class InboxBusyError(InboxError):
    """Another worker is handling the same key now."""

    transient: ClassVar[bool] = True
