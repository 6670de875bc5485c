"""What ``koan_doctor`` asks of scheduling: a beat runs, and critical tasks are well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import doctor, effective
from koan_django.core.doctor import examination
from koan_django.core.health import Finding

from .condition import findings
from .models import ScheduledTask

if TYPE_CHECKING:
    from collections.abc import Iterator


@examination("scheduling.processes")
def processes() -> Iterator[Finding]:
    """Somebody fires what is due."""
    if ScheduledTask.objects.filter(gone=False).exists():
        yield doctor.alive("beat", "Start one: `celery -A <your project> beat`.")


@examination("scheduling.critical")
def critical_tasks() -> Iterator[Finding]:
    """The critical tasks, as beat reports them."""
    for found in findings():
        remedy = "" if found.status == "healthy" else "Look at its runs in the admin; start beat and a worker."
        yield Finding(found.name, found.status, found.message, found.critical, remedy=remedy)


@effective.source("scheduling")
def policy_settings() -> Iterator[effective.Setting]:
    """What people have set in the admin instead of what code says."""
    for task in ScheduledTask.objects.filter(gone=False).order_by("name"):
        if task.drifted:
            yield effective.Setting(f"scheduled task {task.name!r}: trigger", str(task.schedule), "policy row")
        if not task.enabled:
            yield effective.Setting(f"scheduled task {task.name!r}: enabled", "False", "policy row")
