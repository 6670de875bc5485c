"""Errors of audit."""

from __future__ import annotations

from koan_django.core.exceptions import KoanError


class AuditError(KoanError):
    """Base of what audit raises."""


class AppendOnlyError(AuditError):
    """Somebody tried to change or delete an audit row."""
