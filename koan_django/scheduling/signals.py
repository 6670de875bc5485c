"""Receivers of scheduling."""

from __future__ import annotations

from typing import Any

from django.db import router


def after_migrate(using: str, **_: Any) -> None:
    """Write what code declares into the rows, as soon as there are rows."""
    from .models import ScheduledTask
    from .syncing import sync

    if router.allow_migrate_model(using, ScheduledTask):
        sync(using=using)
