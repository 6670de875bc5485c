"""Verbs of scheduled tasks and runs. Times are the database's own, so that clocks of hosts do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections, models
from django.db.models import Exists, OuterRef

from koan_django.core.functions import Now
from koan_django.core.leases import LeasedQuerySet

if TYPE_CHECKING:
    from .models import ScheduledTask, TaskRun  # noqa: F401  # named in the base classes below


class ScheduledTaskQuerySet(models.QuerySet["ScheduledTask"]):
    """Scheduled tasks by what they wait for."""

    def active(self) -> ScheduledTaskQuerySet:
        """Tasks that are enabled and declared."""
        return self.filter(enabled=True, gone=False)

    def due(self) -> ScheduledTaskQuerySet:
        """Tasks whose time has come, the longest waiting first."""
        return self.active().filter(next_run_at__lte=Now()).order_by("next_run_at")

    def claimable(self) -> ScheduledTaskQuerySet:
        """Lock the rows and leave out those that another beat has locked.

        SQLite has no row locks: there a second writer of the same snapshot is refused and tries again.
        """
        features = connections[self.db].features
        return self.select_for_update(
            of=("self",) if features.has_select_for_update_of else (),
            skip_locked=features.has_select_for_update_skip_locked,
        )

    def clocked(self) -> ScheduledTaskQuerySet:
        """Add ``clock``, the time of the database."""
        return self.annotate(clock=Now())  # type: ignore[no-redef]  # the model declares it for its readers

    def idle(self) -> ScheduledTaskQuerySet:
        """Tasks without a run that is queued or running."""
        from .models import UNDER_WAY, TaskRun

        return self.exclude(Exists(TaskRun.objects.filter(task=OuterRef("pk"), state__in=UNDER_WAY)))


class TaskRunQuerySet(LeasedQuerySet["TaskRun"]):
    """Runs by their state."""

    def in_state(self, *states: str) -> TaskRunQuerySet:
        """Runs in one of ``states``."""
        return self.filter(state__in=states)

    def under_way(self) -> TaskRunQuerySet:
        """Runs that are queued or running."""
        from .models import UNDER_WAY

        return self.in_state(*UNDER_WAY)

    def alive(self) -> TaskRunQuerySet:
        """Running ones whose worker gives signs of life."""
        return self.in_state("running").filter(lease_until__gt=Now())

    def abandoned(self) -> LeasedQuerySet[Any]:
        """Running ones whose worker gives none any more."""
        return self.in_state("running").free()

    def unanswered(self) -> TaskRunQuerySet:
        """Queued ones that no worker has begun in time."""
        return self.in_state("queued").filter(resend_at__lte=Now())
