"""Scheduling on the Overview page."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from koan_django.core.overview import Line, panel
from koan_django.core.texts import counted

if TYPE_CHECKING:
    from collections.abc import Iterator


@panel("koan_scheduling", "Scheduled tasks", order=60)
def tasks_panel() -> Iterator[Line]:
    """How many tasks there are, what went wrong in the last hour, and each critical one."""
    from django.urls import reverse

    from koan_django.core.functions import Now

    from .condition import findings
    from .models import ScheduledTask, TaskRun

    runs = reverse("admin:koan_scheduling_taskrun_changelist")
    tasks = reverse("admin:koan_scheduling_scheduledtask_changelist")
    declared = ScheduledTask.objects.filter(gone=False)
    disabled = declared.filter(enabled=False).count()
    yield Line("Tasks", f"{declared.count()}, {disabled} disabled", url=tasks)
    yield Line("Under way", str(TaskRun.objects.under_way().count()), url=f"{runs}?state__exact=running")
    recent = TaskRun.objects.filter(finished_at__gt=Now() - timedelta(hours=1))
    failed = recent.in_state("failed", "timeout", "interrupted").count()
    yield Line(
        "Last hour", f"{counted(recent.count(), 'run')}, {failed} went wrong", "degraded" if failed else "healthy", runs
    )
    for found in findings():
        yield Line(found.name.removeprefix("scheduling."), found.message, found.status, tasks)
