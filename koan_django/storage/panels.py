"""What storage says on the Overview page, and when a process asks whether it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Count, Q
from django.urls import reverse

from koan_django.core import health
from koan_django.core.overview import Line, panel

from .conf import options
from .models import StorageProfile, Tombstone
from .profile import profiles

if TYPE_CHECKING:
    from collections.abc import Iterator


@panel("koan_storage.profiles", "Storage", order=30)
def storage_panel() -> Iterator[Line]:
    """The profiles and their policy, and the objects that wait to be removed."""
    url = reverse("admin:koan_storage_storageprofile_changelist")
    for row in StorageProfile.objects.all():
        yield Line(row.name, f"{row.alias}/{row.container}".rstrip("/"), status(row), f"{url}?q={row.name}")
    counts = Tombstone.objects.aggregate(waiting=Count("pk"), failing=Count("pk", filter=~Q(last_error="")))
    url = reverse("admin:koan_storage_tombstone_changelist")
    text = f"{counts['waiting']}, {counts['failing']} of them failed before"
    yield Line("objects to remove", text, "degraded" if counts["failing"] else "healthy", url)


def status(row: StorageProfile) -> str:
    """Return how a profile is, in the words of health."""
    if not row.is_configured:
        return "unknown"
    return "healthy" if row.enabled and not row.read_only else "degraded"


@health.probe("storage", critical=False)
def storage_probe() -> health.Finding | None:
    """Degraded when the default profile could not store an object: pages that only read go on."""
    name = options().unnamed
    if name is not None:
        profiles[name].driver.probe()
    return None
