"""Where the inbox remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .database import DatabaseStore

if TYPE_CHECKING:
    from .base import Store


def configured() -> Store:
    """Return the store that ``KOAN["INBOX"]["STORE"]`` names."""
    return DatabaseStore()
