"""The jobs of scheduling. ``run`` has beat as its sweep: it sends again what was lost."""

from __future__ import annotations

from datetime import timedelta

from koan_django.core.dispatch import job


@job("koan_scheduling.run")
def run(run_id: int) -> None:
    """Run what the row asks for."""
    from .running import execute

    execute(run_id)


@job("koan_scheduling.purge", every=timedelta(hours=1))
def purge() -> None:
    """Delete the records of runs that are older than ``KOAN["SCHEDULING"]["RETENTION"]``."""
    from .sweeping import purge_old

    purge_old()
