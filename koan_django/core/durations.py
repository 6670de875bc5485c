"""Durations as people write them: seconds, a ``timedelta``, or text such as ``"7d"`` and ``"1h30m"``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(value: object) -> timedelta:
    """Return ``value``, 0 or more, as a ``timedelta``; a ``ValueError`` names the accepted forms."""
    found = _read(value)
    if found is None or found < timedelta(0):
        raise ValueError(f"{value!r} is not a duration: use seconds, a timedelta or text such as '7d'")
    return found


def _read(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return timedelta(seconds=sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(value)))
    except (OverflowError, ValueError):  # longer than a timedelta can hold, or not a number
        return None
    return None
