"""Who did what to which record: append-only events, sealed into a chain that shows every later change.

::

    from koan_django.core import audit

    audit.record("orders.refund", order, data={"amount": "12.00"})

This face is safe to import before Django is configured; what leads to models loads on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actors import Actor as Actor
    from .actors import acting_as as acting_as
    from .counting import note_access as note_access
    from .recording import Reference as Reference
    from .recording import arecord as arecord
    from .recording import record as record
    from .requests import touch as touch

__all__ = ["Actor", "Reference", "acting_as", "arecord", "note_access", "record", "touch"]

if not TYPE_CHECKING:
    from koan_django.core.faces import lazy

    __getattr__ = lazy(
        __name__,
        {
            "Actor": "actors",
            "acting_as": "actors",
            "note_access": "counting",
            "Reference": "recording",
            "arecord": "recording",
            "record": "recording",
            "touch": "requests",
        },
    )
    del lazy
del TYPE_CHECKING, Any
