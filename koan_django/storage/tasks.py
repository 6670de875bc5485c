"""Storage's jobs. Each does what its rows ask for, however often it runs."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS

from koan_django.core.dispatch import job
from koan_django.core.texts import counted

from . import deletion
from .profile import profiles

logger = logging.getLogger(__name__)

#: A write that has not touched its file for so long is dead.
BROKEN_OFF = timedelta(hours=1)


@job("koan_storage.purge", every=timedelta(minutes=1))
def purge(tombstone_id: int | None = None, using: str = DEFAULT_DB_ALIAS) -> None:
    """Remove the object of one tombstone; without an id, of all that are due."""
    if tombstone_id is None:
        deletion.purge_due()
    else:
        deletion.purge(tombstone_id, using=using)


@job("koan_storage.sweep", every=timedelta(days=1))
def sweep() -> None:
    """Remove what writes left behind that broke off, on every store."""
    swept: set[str] = set()
    for name in profiles:
        try:
            profile = profiles[name]
            if profile.place not in swept:
                swept.add(profile.place)
                count = profile.driver.sweep(BROKEN_OFF, profile.base)
                logger.info("%s removed from %s", counted(count, "broken-off write"), profile.place)
        except Exception:
            logger.exception("The profile %s could not be swept; the next run tries again", name)
