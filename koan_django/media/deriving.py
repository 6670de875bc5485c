"""Rendering what is missing: claim, fetch, decode once, publish."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from koan_django.core.telemetry import span

from . import lineage, requesting
from .catalogue import catalogue
from .claiming import claim
from .concluding import conclude, recorded
from .conf import options
from .exceptions import DerivationBusyError, RenderError
from .publishing import publish
from .rendering import check_limits, render_family
from .spooling import fetched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from .assets import MediaAsset
    from .claiming import Claim
    from .querysets import DerivationQuerySet
    from .recipes import Recipe
    from .renderers import Rendition

    A = TypeVar("A", bound=MediaAsset)

#: Seconds between two looks at what somebody else is rendering.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


def derive(asset: A, names: Sequence[str], *, wait: timedelta) -> dict[str, A]:
    """Return the variants by recipe name; render what is missing and wait for what others render."""
    recipes = {requesting.key_of(asset, recipe): recipe for recipe in map(catalogue.get, names)}
    with span("media.derive", asset=asset._meta.label, pk=asset.pk, recipes=list(names)) as facts:
        found = lineage.existing(asset, list(recipes))
        facts["missing"] = len(recipes) - len(found)
        if len(found) < len(recipes):
            _complete(asset, recipes, found, time.monotonic() + wait.total_seconds())
    return {recipe.name: found[key] for key, recipe in recipes.items()}


def take_up(asset: A, recipes: Mapping[str, Recipe]) -> int:
    """Render those of ``recipes`` that wait and that nobody is at; return how many became variants."""
    records = requesting.records(asset).filter(key__in=recipes)
    claims = claim(asset, records, recipes)
    return len(_work(asset, claims)) if claims else 0


def _complete(asset: A, recipes: Mapping[str, Recipe], found: dict[str, A], deadline: float) -> None:
    records, pause = requesting.records(asset), FIRST_PAUSE
    records.request(asset, {key: recipes[key] for key in recipes if key not in found}, grace=options().lease)
    while True:
        missing = [key for key in recipes if key not in found]
        claims = claim(asset, records.filter(key__in=missing), recipes)
        if claims:
            found.update(_work(asset, claims))
            pause = FIRST_PAUSE
        found.update(lineage.existing(asset, [key for key in missing if key not in found]))
        if len(found) == len(recipes):
            return
        _raise_failed(records.filter(key__in=[key for key in missing if key not in found], state="failed"))
        if time.monotonic() >= deadline:
            raise _busy(asset)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _work(asset: A, claims: Sequence[Claim]) -> dict[str, A]:
    """Render and publish what was claimed, and say in the records what came of it."""
    began = time.monotonic()
    done = lineage.existing(asset, [claimed.key for claimed in claims])
    for claimed in claims:
        if claimed.key in done:
            claimed.rows.finished(output_pk=str(done[claimed.key].pk))
    claims = [claimed for claimed in claims if claimed.key not in done and _is_within_limits(asset, claimed)]
    if not claims:
        return done
    with ExitStack() as stack:
        for claimed in claims:
            stack.enter_context(claimed.held.keep())
        renditions = _rendered(asset, claims)
        for index, (claimed, rendition) in enumerate(zip(claims, renditions, strict=True)):
            try:
                row = publish(asset, claimed, rendition, round((time.monotonic() - began) * 1000))
            except BaseException as error:
                conclude(asset, claims[index:], error)
                raise
            if row is not None:
                done[claimed.key] = row
    return done


def _rendered(asset: MediaAsset, claims: Sequence[Claim]) -> list[Rendition]:
    try:
        with asset.open() as stored, fetched(stored, asset.sha256) as source:
            return render_family(source, [claimed.recipe for claimed in claims])
    except BaseException as error:
        conclude(asset, claims, error)
        raise


def _is_within_limits(asset: MediaAsset, claimed: Claim) -> bool:
    try:
        check_limits(claimed.recipe, options())
    except RenderError as error:
        conclude(asset, [claimed], error)
        return False
    return True


def _raise_failed(records: DerivationQuerySet) -> None:
    failed = records.first()
    if failed is not None:
        raise recorded(failed)


def _busy(asset: MediaAsset) -> DerivationBusyError:
    return DerivationBusyError(
        f"{asset._meta.label} {asset.pk} is still being rendered",
        why="somebody else is at it and has not finished in the time that the caller would wait",
        fix="Try again later; if the other died, its claim ends by itself.",
    )
