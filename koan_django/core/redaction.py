"""Keeps secrets out of logs, pages and records: by the name of a key, and by the value itself.

Whoever resolves a secret registers its value here; from then on it is masked wherever text passes through
:func:`redact`, also when it is part of a longer text, and as URLs, JSON, HTML, ``repr`` and Base64 write it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterator, Mapping, Set
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "********"
#: A shorter value would mask ordinary words, and is no secret that redaction could save.
MIN_LENGTH = 6
_NAMES = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|private_?key|authori[sz]ation|credential|cookie|signature",
    re.IGNORECASE,
)
#: Without the scheme: a pattern that begins with a run of any length takes time by its square.
_USERINFO = re.compile(r"(?P<user>://[^\s:/@]*):[^\s/@]+@")
_values: frozenset[str] = frozenset()
#: The values that the pattern was made for, and the pattern.
_compiled: tuple[frozenset[str], re.Pattern[str] | None] = (_values, None)
_lock = threading.Lock()


def register_value(value: str) -> None:
    """Mask ``value`` from now on; one shorter than :data:`MIN_LENGTH` is left alone."""
    global _values
    if len(value) >= MIN_LENGTH and value not in _values:
        with _lock:
            _values = _values | {value}


def forget_value(value: str) -> None:
    """Stop masking ``value``: it was rotated and revoked."""
    global _values
    with _lock:
        _values = _values - {value}


def registered() -> frozenset[str]:
    """Return the values that are masked now."""
    return _values


def is_sensitive(name: str) -> bool:
    """Whether a key called ``name`` holds a secret by its name."""
    return _NAMES.search(name) is not None


def redact_text(text: str) -> str:
    """Return ``text`` with registered values and passwords of URLs masked."""
    pattern = _current_pattern()
    if pattern is not None:
        text = pattern.sub(MASK, text)
    return _USERINFO.sub(rf"\g<user>:{MASK}@", text) if "://" in text else text


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` safe to show: nested values are walked, what a key's name marks as secret is masked."""
    if name and is_sensitive(name):
        return MASK
    if isinstance(value, Mapping):
        return {
            redact_text(key) if isinstance(key, str) else key: redact(item, str(key)) for key, item in value.items()
        }
    if isinstance(value, list | tuple | Set):
        return [redact(item) for item in value]
    if isinstance(value, bytes):
        return redact_text(value.decode("utf-8", "backslashreplace"))
    return redact_text(value) if isinstance(value, str) else value


def _current_pattern() -> re.Pattern[str] | None:
    """The pattern of the values registered now; another thread may register one meanwhile."""
    global _compiled
    values = _values
    made_for, pattern = _compiled
    if made_for is not values:
        longest_first = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first))) if values else None
        _compiled = (values, pattern)
    return pattern


def _forms(value: str) -> Iterator[str]:
    """How others write ``value``: a password in a URL, in JSON, in a list that is printed, and each on a page."""
    for written in (
        value,
        quote(value, safe="", errors="backslashreplace"),
        quote_plus(value, errors="backslashreplace"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        _printed(value, "'"),
        _printed(value, "\\'"),
    ):
        yield written
        yield html.escape(written)
    yield base64.b64encode(value.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def _printed(value: str, apostrophe: str) -> str:
    """``repr`` escapes an apostrophe only where the whole text holds both kinds of quotes."""
    return "".join(apostrophe if character == "'" else repr(character)[1:-1] for character in value)
