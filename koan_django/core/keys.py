"""The keys that a project signs with: texts of its settings, or references to secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .redaction import register_value
from .templating import render

if TYPE_CHECKING:
    from .exceptions import KoanError

#: A key must not be guessed, and a shorter one could be.
KEY_LENGTH = 32


def resolve_key(text: str, *, of: str, error: type[KoanError]) -> bytes:
    """Return the key that ``text`` gives, and never show it from now on.

    Raises what resolves it, and ``error`` for one of fewer than :data:`KEY_LENGTH` characters; ``of`` says whose it is.
    """
    value = str(render(text))
    register_value(value)
    if len(value) < KEY_LENGTH:
        raise error(
            f"a key of {of} is too short",
            why=f"it has {len(value)} characters, and {KEY_LENGTH} are needed",
            fix='Make one with: python -c "import secrets; print(secrets.token_hex(32))"',
        )
    return value.encode("utf-8", "surrogateescape")
