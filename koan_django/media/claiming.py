"""Claims: who renders what. The unique row is the single flight, its lease the turn, its token the fence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import Held
from koan_django.storage.fieldfile import Location

from . import lineage
from .conf import options
from .leftovers import bury
from .models import Derivation, State
from .recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .assets import MediaAsset
    from .querysets import DerivationQuerySet


@dataclass(frozen=True, slots=True)
class Claim:
    """The turn to render one variant. ``left`` is where an earlier attempt may have left bytes."""

    recipe: Recipe
    key: str
    held: Held
    attempts: int
    left: Location | None

    @property
    def rows(self) -> DerivationQuerySet:
        """The record as long as the claim holds, else nothing: the guard of every write."""
        records: DerivationQuerySet = Derivation.objects.using(self.held.using)
        return records.held(self.held.token).filter(pk=self.held.pk)

    def lost(self) -> LeaseLostError:
        """Return the error that says so."""
        return LeaseLostError(
            f"the claim on {self.recipe} was lost",
            why="its lease ended before the result could be published",
            fix="Nothing: whoever holds it now publishes its own.",
        )


def claim(asset: MediaAsset, records: Iterable[Derivation], recipes: Mapping[str, Recipe]) -> list[Claim]:
    """Take the turn at each of ``records`` that nobody is at and that has not failed."""
    taken = (_take(asset, record, recipes[record.key]) for record in records if record.state != State.FAILED)
    return [found for found in taken if found is not None]


def _take(asset: MediaAsset, record: Derivation, recipe: Recipe) -> Claim | None:
    records = Derivation.objects.using(lineage.alias_of(asset))
    held = records.exclude(state=State.FAILED).hold(record.pk, options().lease)
    if held is None:
        return None
    now = records.get(pk=record.pk)  # as it was left: a state "rendering" is a dead renderer's
    attempts = 1 if now.state == State.READY else now.attempts + 1
    left = Location(now.profile, now.object_key) if now.object_key else None
    taken = Claim(recipe, record.key, held, attempts, left)
    if options().retry.allows(attempts):
        return taken if taken.rows.begun() else None
    if left is not None:
        bury(asset, left)
    taken.rows.failed(now.reason or f"the process of each of {now.attempts} attempts ended without a word")
    return None
