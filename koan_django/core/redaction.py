"""Keeps secrets out of logs, pages and records: by the name of a key, and by the value itself.

Whoever resolves a secret registers its value here; from then on it is masked wherever text passes through
:func:`redact`, also when it is part of a longer text such as a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "********"
#: A shorter value would mask ordinary words, and is no secret that redaction could save.
MIN_LENGTH = 6
_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|private_?key|authori[sz]ation|credential|cookie|signature",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@")
_values: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register_value(value: str) -> None:
    """Mask ``value`` from now on; one shorter than :data:`MIN_LENGTH` is left alone."""
    global _pattern
    if len(value) >= MIN_LENGTH and value not in _values:
        _values.add(value)
        _pattern = None


def forget_value(value: str) -> None:
    """Stop masking ``value``: it was rotated and revoked."""
    global _pattern
    _values.discard(value)
    _pattern = None


def is_sensitive(name: str) -> bool:
    """Whether a key called ``name`` holds a secret by its name."""
    return _NAMES.search(name) is not None


def redact_text(text: str) -> str:
    """Return ``text`` with registered values and passwords of URLs masked."""
    global _pattern
    if _values:
        if _pattern is None:
            longest_first = sorted(_values, key=len, reverse=True)
            _pattern = re.compile("|".join(map(re.escape, longest_first)))
        text = _pattern.sub(MASK, text)
    return _USERINFO.sub(rf"\g<scheme>:{MASK}@", text) if "://" in text else text


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` safe to show: nested values are walked, what a key's name marks as secret is masked."""
    if name and is_sensitive(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value
