"""For how long the inbox knows a dead letter that was handled meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.messaging.dead.memory import remembers

from .conf import options

if TYPE_CHECKING:
    from datetime import timedelta


@remembers("inbox")
def retention() -> timedelta:
    """What is older is forgotten."""
    return options().retention
