"""What the person or machine that runs the tests has asked for, by environment variables.

``SERVICES=none`` runs without servers, ``SERVICES=apt`` allows to install them with sudo, and
``KOAN_TEST_REQUIRE_SERVICES=1`` makes a missing server a failure whatever ``SERVICES`` says.
"""

from __future__ import annotations

import os
from typing import Literal

Services = Literal["", "none", "apt"]


class PolicyError(Exception):
    """``SERVICES`` has a value that means nothing."""


def asked() -> Services:
    """Return the value of ``SERVICES``."""
    value = os.environ.get("SERVICES", "").strip().lower()
    if value not in ("", "none", "apt"):
        raise PolicyError(f"SERVICES={value}: use none (run without servers), apt (install them), or leave it unset")
    return value  # type: ignore[return-value]  # narrowed by the test above


def required() -> bool:
    """Whether every server must be there."""
    return os.environ.get("KOAN_TEST_REQUIRE_SERVICES", "") not in ("", "0")


def unwanted() -> bool:
    """Whether the tests are to run without servers."""
    return asked() == "none" and not required()
