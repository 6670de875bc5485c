"""What has happened in core, for receivers of any app."""

from __future__ import annotations

from django.dispatch import Signal

#: ``names`` are those of the secrets that have changed, empty where that is not known; no value is told.
secrets_rotated = Signal()
