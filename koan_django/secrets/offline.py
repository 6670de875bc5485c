"""``KOAN_SECRETS=offline``: for commands that run where no store of secrets is, such as the build of an image."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from koan_django.core.suggestions import did_you_mean

from .exceptions import SecretOptionsError

if TYPE_CHECKING:
    from .references import SecretReference

VARIABLE = "KOAN_SECRETS"
_MODES = ("online", "offline")


def is_offline() -> bool:
    """Whether remote providers are left alone and settings get placeholders for what is missing."""
    mode = os.environ.get(VARIABLE, "") or "online"
    if mode not in _MODES:
        raise SecretOptionsError(
            f"{VARIABLE}={mode!r} is no mode", why=f"the modes are {', '.join(_MODES)}{did_you_mean(mode, _MODES)}"
        )
    return mode == "offline"


def placeholder(reference: SecretReference) -> str:
    """Return a text that names the missing secret. It differs each time: nobody can know a key made of it."""
    return f"missing-secret-{reference.name}-{secrets.token_hex(16)}"
