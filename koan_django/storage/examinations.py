"""What ``koan_doctor`` asks of storage: each store takes an object, gives it back and removes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q

from koan_django.core import effective
from koan_django.core.doctor import examination
from koan_django.core.health import Finding
from koan_django.core.texts import counted

from . import doctor
from .models import StorageProfile, Tombstone
from .profile import profiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.core.health import Status

_STATES: dict[doctor.State, Status] = {
    "works": "healthy",
    "not tried": "healthy",
    "missing": "degraded",
    "failed": "unhealthy",
}


@examination("storage.profiles")
def stores() -> Iterator[Finding]:
    """Every profile that takes objects, and what its driver declares; as ``koan_storage_doctor`` does."""
    closed = set(StorageProfile.objects.filter(Q(enabled=False) | Q(read_only=True)).values_list("name", flat=True))
    for name in profiles:
        if name in closed:
            yield Finding(f"storage.{name}", "healthy", "not tried: it is disabled or read-only by policy")
            continue
        found = doctor.examine(profiles[name])
        troubled = [each for each in found if each.state in ("missing", "failed")]
        for each in troubled:
            remedy = each.fix or "Look at the store, its credentials and its address."
            yield Finding(f"storage.{name}.{each.subject}", _STATES[each.state], each.text, remedy=remedy)
        if not troubled:
            yield Finding(f"storage.{name}", "healthy", "written, read and removed")


@examination("storage.tombstones")
def tombstones() -> Iterator[Finding]:
    """No removal fails again and again."""
    failing = Tombstone.objects.exclude(last_error="").count()
    if failing:
        text = f"{counted(failing, 'object')} could not be removed"
        yield Finding(
            "storage.tombstones", "degraded", text, remedy="Read the errors in the admin, under objects to remove."
        )
    else:
        yield Finding("storage.tombstones", "healthy", "no removal fails")


@effective.source("storage")
def policy_settings() -> Iterator[effective.Setting]:
    """What people have set in the admin."""
    for row in StorageProfile.objects.filter(is_configured=True):
        for name in ("enabled", "read_only"):
            path = f"storage profile {row.name!r}: {name}"
            yield effective.Setting(path, str(getattr(row, name)), "policy row")
