"""Media: pictures that are checked before they are stored, and what recipes make of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exceptions import MediaError as MediaError
    from .exceptions import RefusedError as RefusedError
    from .inspection import inspect as inspect
    from .recipes import Recipe as Recipe
    from .recipes import recipe as recipe
    from .rendering import render_family as render_family

__all__ = ["MediaError", "Recipe", "RefusedError", "inspect", "recipe", "render_family"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "MediaError": "exceptions",
            "RefusedError": "exceptions",
            "inspect": "inspection",
            "Recipe": "recipes",
            "recipe": "recipes",
            "render_family": "rendering",
        },
    )
    del lazy
del TYPE_CHECKING, Any
