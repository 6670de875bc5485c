"""Derivations that wait: worked off picture by picture, and sent again when nobody came."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from django.apps import apps

from koan_django.core.exceptions import KoanError
from koan_django.core.functions import Now

from . import deriving, lineage, requesting
from .catalogue import catalogue
from .concluding import is_final
from .exceptions import RecipeNotFoundError
from .models import Derivation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .assets import MediaAsset
    from .recipes import Recipe

logger = logging.getLogger(__name__)

#: How many pictures one sweep sends, and how long it waits before it sends the same again.
BATCH = 500
PATIENCE = timedelta(minutes=5)


def work_off(label: str, pk: str, using: str) -> None:
    """Render what is open of one picture. What goes wrong stands in the records, and is not raised."""
    asset = _load(label, pk, using)
    if asset is None:
        Derivation.objects.using(using).filter(asset=label, source_pk=pk).open().free().delete()
        return
    recipes = dict(_recipes(asset))
    if not recipes:
        return
    try:
        deriving.take_up(asset, recipes)
    except KoanError as error:
        level = logging.INFO if is_final(error) else logging.WARNING
        logger.log(level, "%s %s was not rendered: %s", label, pk, error)
    except Exception:
        logger.exception("%s %s was not rendered; the sweep tries again", label, pk)


def send_due() -> int:
    """Send a job for each picture that has derivations due; return how many pictures there were."""
    sent = 0
    for using in lineage.aliases():
        due = Derivation.objects.using(using).due()
        sources = list(due.order_by().values_list("asset", "source_pk").distinct()[:BATCH])
        for label, pk in sources:
            due.filter(asset=label, source_pk=pk).update(not_before=Now() + PATIENCE)
            requesting.dispatch(label, pk, using)
        sent += len(sources)
    return sent


def _load(label: str, pk: str, using: str) -> MediaAsset | None:
    model: type[MediaAsset] = apps.get_model(label)
    return model._base_manager.using(using).filter(pk=pk).first()


def _recipes(asset: MediaAsset) -> Iterator[tuple[str, Recipe]]:
    """Yield what can be rendered; the rest fails with its reason."""
    for record in requesting.records(asset).open():
        mine = requesting.records(asset).filter(pk=record.pk).open().free()
        try:
            recipe = catalogue.get(record.recipe, record.version)
        except RecipeNotFoundError as error:
            mine.failed(str(error))
            continue
        if requesting.key_of(asset, recipe) == record.key:
            yield record.key, recipe
        else:
            mine.failed("the picture, its recipe or the renderer has changed since it was asked for")
