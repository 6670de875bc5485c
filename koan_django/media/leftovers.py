"""Bytes that were written for a variant and will not become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from koan_django.core.telemetry import emit
from koan_django.storage import deletion

from . import lineage

if TYPE_CHECKING:
    from koan_django.storage.fieldfile import Location

    from .assets import MediaAsset


def bury(asset: MediaAsset, location: Location) -> None:
    """Have the bytes at ``location`` removed, unless a row names them after all; there may be none."""
    with transaction.atomic(using=lineage.alias_of(asset)):
        deletion.bury(location, origin=str(asset._meta.get_field("file")), instance=asset)
    emit("media.leftover", profile=location.profile, key=location.key)
