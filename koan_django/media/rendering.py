"""Renders recipes from a stream: the checks, the limits, then the renderer."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

from .conf import options
from .exceptions import RenderError
from .inspection import inspect
from .renderers import renderer_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .conf import MediaOptions
    from .formats import Format
    from .recipes import Recipe
    from .renderers import Rendition


def render_family(
    stream: IO[bytes], recipes: Sequence[Recipe], *, limits: MediaOptions | None = None
) -> list[Rendition]:
    """Render each recipe from one decoding of a seekable ``stream``, in their order.

    Raises :class:`RefusedError` when the source is refused at any stage and :class:`RenderError` when a recipe breaks
    a limit. What else it raises says nothing against the source.
    """
    limits = limits or options()
    for recipe in recipes:
        check_limits(recipe, limits)
    found = inspect(stream, limits=limits)
    return renderer_for(found.format).family(stream, found, recipes, limits)


def variant_key(source_sha256: str, recipe: Recipe, format: Format) -> str:
    """Return the key of what ``recipe`` makes of a source in ``format``: the same inputs, the same key, everywhere."""
    revision = renderer_for(format).revision
    return hashlib.sha256(f"{source_sha256}\n{recipe.canonical}\n{revision}".encode()).hexdigest()


def check_limits(recipe: Recipe, limits: MediaOptions) -> None:
    """Raise :class:`RenderError` for a recipe that asks for more than the options allow."""
    if recipe.encode.quality > limits.max_quality:
        raise RenderError(
            f"the recipe {str(recipe)!r} cannot be rendered",
            why=f"it asks for the quality {recipe.encode.quality} and the limit is {limits.max_quality}",
            fix="Lower it, or raise KOAN['MEDIA']['MAX_QUALITY'].",
        )
