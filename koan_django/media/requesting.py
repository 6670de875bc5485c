"""Asking for variants without rendering them: what a request does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.apps import apps
from django.db import router, transaction

from . import lineage
from .catalogue import catalogue
from .exceptions import DerivationBusyError, RenderError
from .labels import label_of
from .models import Derivation

if TYPE_CHECKING:
    from .assets import MediaAsset
    from .querysets import DerivationQuerySet
    from .recipes import Recipe

    A = TypeVar("A", bound=MediaAsset)

#: How long a job that was sent has before the sweep sends another.
GRACE = timedelta(minutes=1)


def ensure(asset: A, name: str) -> A | None:
    """Return the variant, or ask for it and return ``None``."""
    recipe = catalogue.get(name)
    key = key_of(asset, recipe)
    found = lineage.existing(asset, [key]).get(key)
    if found is not None or not _ask(asset, key, recipe):
        return found
    dispatch(label_of(asset), str(asset.pk), lineage.alias_of(asset))
    # Where jobs run in the process that sent them, outside a transaction, it is there already.
    return lineage.existing(asset, [key]).get(key)


def records(asset: MediaAsset) -> DerivationQuerySet:
    """Return the records of what was asked for."""
    rows: DerivationQuerySet = Derivation.objects.using(lineage.alias_of(asset))
    return rows.of(asset)


def key_of(asset: MediaAsset, recipe: Recipe) -> str:
    """Return the key of a variant; raises :class:`RenderError` for a row that no picture was stored with."""
    key = lineage.key_of(asset, recipe)
    if key is None or asset.pk is None:
        raise RenderError(
            f"{asset._meta.label} {asset.pk} has no variants",
            why="its picture was not inspected and stored by media",
            fix="Save the row with a picture first.",
        )
    return key


def dispatch(label: str, pk: str, using: str) -> None:
    """Have the open derivations of one picture rendered elsewhere, after the commit."""
    from .tasks import derive

    transaction.on_commit(partial(derive.dispatch, label, pk, using), using=using, robust=True)


def _ask(asset: MediaAsset, key: str, recipe: Recipe) -> bool:
    """Return whether a job has to be sent. Any number of requests may ask; the first one's is enough."""
    known = records(asset).filter(key=key)
    state = known.values_list("state", flat=True).first()
    if state is None:
        known.request(asset, {key: recipe}, grace=GRACE)
        return True
    return state == "ready" and bool(known.filter(state="ready").renew())


def again(record: Derivation) -> None:
    """Have the variant of ``record`` rendered anew; the one there is goes.

    Raises :class:`DerivationBusyError` when it waits or is being rendered already.
    """
    using = record._state.db or router.db_for_write(Derivation)
    with transaction.atomic(using=using):
        if not Derivation.objects.using(using).filter(pk=record.pk).renew():
            raise DerivationBusyError(f"{record} waits already, or is being rendered")
        model: type[MediaAsset] = apps.get_model(record.asset)
        variant = {"source": record.source_pk, "derivation_key": record.key}
        model._base_manager.using(using).filter(**variant).delete()
        dispatch(record.asset, record.source_pk, using)
