"""What the profiles' rows allow. A change in the admin counts within two seconds in every process."""

from __future__ import annotations

from django.db import router

from koan_django.core.policy import Cached

from .exceptions import ProfileRefusedError
from .models import StorageProfile


def require_store(name: str) -> None:
    """Raise :class:`ProfileRefusedError` unless new objects may be stored. A profile without a row is free."""
    row = _rows().get(name)
    if row is None:
        return
    if not row.enabled:
        raise _refusal(row, "is disabled: it takes no new objects", "Enable it in the admin, or use another profile.")
    _require_writable(row)


def require_delete(name: str) -> None:
    """Raise :class:`ProfileRefusedError` unless objects may be removed."""
    row = _rows().get(name)
    if row is not None:
        _require_writable(row)


def _load() -> dict[str, StorageProfile]:
    rows = StorageProfile.objects.using(router.db_for_write(StorageProfile))  # a replica may lag behind the admin
    return {row.name: row for row in rows.only("name", "enabled", "read_only", "note")}


_rows = Cached(_load)


def _require_writable(row: StorageProfile) -> None:
    if row.read_only:
        raise _refusal(row, "is read-only: nothing is stored or removed", "Take the mark off in the admin.")


def _refusal(row: StorageProfile, why: str, fix: str) -> ProfileRefusedError:
    note = f" (note: {row.note})" if row.note else ""
    return ProfileRefusedError(f"the storage profile {row.name!r} refuses", why=f"it {why}{note}", fix=fix)
