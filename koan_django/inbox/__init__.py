"""What was handled already: a duplicate has its effects once."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .claims import Claim as Claim
    from .claims import claim as claim
    from .exceptions import InboxBusyError as InboxBusyError
    from .exceptions import InboxError as InboxError

__all__ = ["Claim", "InboxBusyError", "InboxError", "claim"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {"Claim": "claims", "claim": "claims", "InboxBusyError": "exceptions", "InboxError": "exceptions"},
    )
    del lazy
del TYPE_CHECKING
