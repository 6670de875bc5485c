"""Media: pictures that are checked before they are stored, and what recipes make of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assets import MediaAsset as MediaAsset
    from .exceptions import DerivationBusyError as DerivationBusyError
    from .exceptions import DerivationFailedError as DerivationFailedError
    from .exceptions import MediaError as MediaError
    from .exceptions import RecipeConflictError as RecipeConflictError
    from .exceptions import RecipeNotFoundError as RecipeNotFoundError
    from .exceptions import RefusedError as RefusedError
    from .exceptions import RenderError as RenderError
    from .exceptions import SourceChangedError as SourceChangedError
    from .exceptions import SourceDamagedError as SourceDamagedError
    from .exceptions import SourceGoneError as SourceGoneError
    from .inspection import inspect as inspect
    from .recipes import Recipe as Recipe
    from .recipes import recipe as recipe
    from .rendering import render_family as render_family
    from .signals import derivation_failed as derivation_failed
    from .signals import variant_ready as variant_ready

_ERRORS = (
    "DerivationBusyError",
    "DerivationFailedError",
    "MediaError",
    "RecipeConflictError",
    "RecipeNotFoundError",
    "RefusedError",
    "RenderError",
    "SourceChangedError",
    "SourceDamagedError",
    "SourceGoneError",
)
_HOMES = {
    "MediaAsset": "assets",
    "Recipe": "recipes",
    "derivation_failed": "signals",
    "inspect": "inspection",
    "recipe": "recipes",
    "render_family": "rendering",
    "variant_ready": "signals",
}
__all__ = [*_HOMES, *_ERRORS]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(__name__, {**_HOMES, **dict.fromkeys(_ERRORS, "exceptions")})
    del lazy
del TYPE_CHECKING, Any
