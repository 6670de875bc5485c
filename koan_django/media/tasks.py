"""Media's jobs. Each does what its rows ask for, however often it runs."""

from __future__ import annotations

from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS

from koan_django.core.dispatch import job

from . import backlog


@job("koan_media.derive")
def derive(asset: str, pk: str, using: str = DEFAULT_DB_ALIAS) -> None:
    """Render what is asked for of one picture, named by the label of its model and its primary key."""
    backlog.work_off(asset, pk, using)


@job("koan_media.sweep", every=timedelta(minutes=1))
def sweep() -> None:
    """Send the jobs again whose derivations nobody is at, a dead renderer's among them."""
    backlog.send_due()
