"""``celery beat`` with scheduled tasks: ``install(app)`` makes it the scheduler of the project.

Each beat looks twice a second for tasks that are due and fires them; any number of beats may run. The periodic tasks
of django-celery-beat keep running too. They cannot be shared, so one beat at a time runs them, under a lease.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connections
from django_celery_beat.schedulers import DatabaseScheduler

from koan_django.core import boot, clock, facts, health
from koan_django.core.stores import STORE_ERRORS

from .condition import report
from .exceptions import SchedulingError
from .firing import fire_due, fire_startup, seconds_until_due
from .periodic import PeriodicLease
from .sweeping import sweep
from .syncing import sync

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

#: How often beat looks, so that a delay of one second holds.
TICK = 0.5
SWEEP_SECONDS = 2.0
REPORT_SECONDS = 10.0
#: The longest pause while the database is away.
PATIENCE = 5.0
FACT = "scheduling.beat"


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # the package is not typed
    """Fires scheduled tasks, and periodic tasks while it holds their lease. Survives restarts of the database."""

    #: What ran is written at once: whoever takes over must not run it again.
    sync_every_tasks = 1

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._lease = PeriodicLease()
        self._prepared = False
        self._troubles = 0
        self._busy = 0
        self._sweep_at = self._report_at = self._periodic_at = 0.0
        kwargs["sync_every_tasks"] = 1
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Nothing yet: the schedule of periodic tasks is written and read by whoever holds their lease."""
        if "koan_scheduling.run" not in self.app.tasks:
            raise SchedulingError(
                "beat has nobody to send runs to",
                why="the jobs of koan-django are not tasks of this Celery app",
                fix="Call koan_django.celery.install(app) in the project's celery.py.",
            )

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due and return the seconds to sleep."""
        try:
            with self._undisturbed():
                wait = min(self._fire(), self._periodic(*args, **kwargs))
        except STORE_ERRORS as error:
            return self._back_off(error)
        self._troubles = 0
        return max(0.0, min(TICK, wait))

    def sync(self) -> None:
        """Write what ran into the rows of the periodic tasks."""
        with self._undisturbed():
            super().sync()

    def close(self) -> None:
        """Save the periodic tasks, give back the lease and take back what was said about health.

        Celery calls it from its signal handler, perhaps in the middle of a query, whose connection would wait for
        itself for ever, and once more when the tick has ended: then it is done.
        """
        if self._busy:
            return
        try:
            super().close()
            self._lease.release()
            health.retract()
            facts.retract()
        except STORE_ERRORS as error:
            logger.warning("Beat could not say goodbye: %s", error)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    def _fire(self) -> float:
        self._keep_house()
        wait = seconds_until_due()
        if wait is None or wait > 0:
            return TICK if wait is None else wait
        fire_due()
        return 0.0

    def _keep_house(self) -> None:
        if not self._prepared:
            sync()
            fire_startup()
            self._prepared = True
        now = clock.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            sweep()
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            health.report(FACT, "healthy", self._lease.describe())
            report()
            boot.publish()

    def _periodic(self, *args: Any, **kwargs: Any) -> float:
        if self._lease.hold():
            self._take_over()
        if not self._lease.held:
            return TICK
        wait: float = self._periodic_at - clock.monotonic()
        if wait <= 0:
            wait = float(super().tick(*args, **kwargs))
            self._periodic_at = clock.monotonic() + wait
        return wait

    def _take_over(self) -> None:
        """Forget what was known when another beat ran the periodic tasks, and read them anew."""
        self._dirty.clear()
        self._initial_read = True
        self._heap = None
        self.old_schedulers = None
        self._periodic_at = 0.0
        super().setup_schedule()

    def _back_off(self, error: Exception) -> float:
        """A fact cannot be written now; the old ones expire and say so."""
        self._troubles += 1
        wait = min(TICK * 2.0**self._troubles, PATIENCE)
        logger.warning(
            "Beat could not reach the database or the store of leases, trying again in %.1f s: %s", wait, error
        )
        self._lease.forget()
        self._report_at = 0.0
        connections.close_all()
        return wait
