"""The recipes that this process knows, by name and version."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from koan_django.core.suggestions import did_you_mean

from .exceptions import RecipeConflictError, RecipeNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .recipes import Recipe


class Catalogue:
    """Recipes by name; the highest version is the one meant when none is said. It never closes."""

    def __init__(self) -> None:
        self._recipes: dict[str, dict[int, Recipe]] = {}
        self._lock = threading.Lock()

    def add(self, recipe: Recipe) -> Recipe:
        """Register ``recipe``, or return the first one that was registered with the same operations."""
        with self._lock:
            versions = self._recipes.setdefault(recipe.name, {})
            known = versions.setdefault(recipe.version, recipe)
        if known.fingerprint != recipe.fingerprint:
            raise RecipeConflictError(
                f"the recipe {str(recipe)!r} is defined twice",
                why=f"{known.origin} and {recipe.origin} define it differently",
                fix="Rename one of them, or raise its version.",
            )
        return known

    def get(self, name: str, version: int | None = None) -> Recipe:
        """Return the recipe ``name`` in ``version`` (the highest without one).

        Raises :class:`RecipeNotFoundError`.
        """
        versions = self._recipes.get(name, {})
        found = versions.get(max(versions, default=0) if version is None else version)
        if found is None:
            wanted = name if version is None else f"{name}@{version}"
            hint = did_you_mean(name, self._recipes) if not versions else ""
            raise RecipeNotFoundError(
                f"there is no recipe {wanted!r}{hint}",
                why="no module 'recipes' of an installed app defines it in this process",
                fix="Define it there, or deploy the code that does.",
            )
        return found

    def remove(self, recipe: Recipe) -> None:
        """Forget ``recipe``, for tests."""
        with self._lock:
            versions = self._recipes.get(recipe.name, {})
            versions.pop(recipe.version, None)
            if not versions:
                self._recipes.pop(recipe.name, None)

    def __iter__(self) -> Iterator[Recipe]:
        return iter([recipe for versions in self._recipes.values() for recipe in versions.values()])


catalogue = Catalogue()
