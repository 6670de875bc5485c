"""Brings the profile rows in line with the settings: what settings own is overwritten, policy is left alone."""

from __future__ import annotations

from typing import Any, Literal

from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from . import backing
from .conf import options
from .models import StorageProfile

Change = Literal["added", "changed", "missing", "unchanged"]


def sync(*, using: str = DEFAULT_DB_ALIAS, dry_run: bool = False) -> dict[str, Change]:
    """Write a row for each profile of the settings and mark the others as missing; return what changed, by name."""
    rows = StorageProfile.objects.using(using)
    wanted = _wanted()
    known = {row.name: row for row in rows.all()}
    changes: dict[str, Change] = {name: _compare(known.get(name), values) for name, values in wanted.items()}
    gone = {name for name, row in known.items() if name not in wanted}
    changes |= {name: "missing" if known[name].is_configured else "unchanged" for name in gone}
    if dry_run:
        return changes
    with transaction.atomic(using=using):
        for name, values in wanted.items():
            rows.update_or_create(name=name, defaults={**values, "synced_at": timezone.now()})
        rows.filter(name__in=gone, is_configured=True).update(
            is_configured=False, is_default=False, synced_at=timezone.now()
        )
    return changes


def _wanted() -> dict[str, dict[str, Any]]:
    found = options()
    return {
        name: {
            "alias": profile.storage,
            "container": profile.container,
            "is_default": name == found.unnamed,
            "is_configured": True,
            **backing.described(profile.storage, profile.driver),
        }
        for name, profile in found.profiles.items()
    }


def _compare(row: StorageProfile | None, values: dict[str, Any]) -> Change:
    if row is None:
        return "added"
    return "unchanged" if all(getattr(row, name) == value for name, value in values.items()) else "changed"
