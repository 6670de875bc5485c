"""Secrets: references in settings and code, resolved by a chain of providers.

This face imports no Django, so that ``settings.py`` can use it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exceptions import SecretAccessError as SecretAccessError
    from .exceptions import SecretError as SecretError
    from .exceptions import SecretFormatError as SecretFormatError
    from .exceptions import SecretNotFoundError as SecretNotFoundError
    from .exceptions import SecretOptionsError as SecretOptionsError
    from .exceptions import SecretReferenceError as SecretReferenceError
    from .exceptions import SecretUnavailableError as SecretUnavailableError
    from .namespace import resolve_settings as resolve_settings
    from .providers import Provider as Provider
    from .references import SecretReference as SecretReference
    from .resolver import aget as aget
    from .resolver import aresolve as aresolve
    from .resolver import get as get
    from .resolver import resolve as resolve
    from .types import SecretText as SecretText
    from .types import SecretValue as SecretValue

__all__ = [
    "Provider",
    "SecretAccessError",
    "SecretError",
    "SecretFormatError",
    "SecretNotFoundError",
    "SecretOptionsError",
    "SecretReference",
    "SecretReferenceError",
    "SecretText",
    "SecretUnavailableError",
    "SecretValue",
    "aget",
    "aresolve",
    "get",
    "resolve",
    "resolve_settings",
]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {name: "exceptions" for name in __all__ if name.endswith("Error")}
        | dict.fromkeys(("aget", "aresolve", "get", "resolve"), "resolver")
        | {"Provider": "providers", "SecretReference": "references", "resolve_settings": "namespace"}
        | {"SecretText": "types", "SecretValue": "types"},
    )
    del lazy
del TYPE_CHECKING
