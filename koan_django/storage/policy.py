"""What the profiles' rows allow. A change in the admin counts within two seconds in every process.

Each change of a row's policy is audited, with what it was and what it is.
"""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.models import signals

from koan_django.core import audit
from koan_django.core.policy import Cached

from .exceptions import ProfileRefusedError
from .models import StorageProfile

#: The columns that people set.
POLICY = ("enabled", "read_only", "note")
_BEFORE = "_koan_policy_before"


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


def note_before(sender: type[StorageProfile], instance: StorageProfile, raw: bool, using: str, **_: Any) -> None:
    """Before a row is saved, read what its policy was."""
    before = None
    if not raw and not instance._state.adding:
        before = StorageProfile.objects.using(using).filter(pk=instance.pk).values(*POLICY).first()
    instance.__dict__[_BEFORE] = before


def audit_change(sender: type[StorageProfile], instance: StorageProfile, **_: Any) -> None:
    """After a row was saved, record which of its policy changed, from what to what."""
    before = instance.__dict__.pop(_BEFORE, None) or {}
    now = {name: getattr(instance, name) for name in before}
    changes = {name: {"from": before[name], "to": now[name]} for name in before if before[name] != now[name]}
    if changes:
        audit.record("storage.policy", instance, data=changes)


signals.pre_save.connect(note_before, sender=StorageProfile, dispatch_uid="koan_django.storage.policy")
signals.post_save.connect(audit_change, sender=StorageProfile, dispatch_uid="koan_django.storage.policy.audit")


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
