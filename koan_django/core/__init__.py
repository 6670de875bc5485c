"""What every app stands on: options, context, health, leases, dispatch, errors and the admin kit.

This face is safe to import before Django is configured; names that lead to models load on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import health as health
    from .context import correlation as correlation
    from .context import tenant as tenant
    from .dispatch import job as job
    from .exceptions import KoanError as KoanError
    from .exceptions import PermanentError as PermanentError
    from .exceptions import TransientError as TransientError

__all__ = ["KoanError", "PermanentError", "TransientError", "correlation", "health", "job", "tenant"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "correlation": "context",
            "tenant": "context",
            "job": "dispatch",
            "KoanError": "exceptions",
            "PermanentError": "exceptions",
            "TransientError": "exceptions",
        },
    )
    del lazy
del TYPE_CHECKING, Any
