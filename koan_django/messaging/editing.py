"""Lets a person correct the body of a dead letter without being shown what is sensitive in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from koan_django.core.redaction import MASK

from .exceptions import MessagingError
from .masking import masked, sensitive_names
from .messages import by_alias

if TYPE_CHECKING:
    from .models import DeadLetter


def editable(dead: DeadLetter) -> str:
    """Return the body as indented JSON with its sensitive fields masked.

    Raises :class:`MessagingError` for a body that cannot be shown without them.
    """
    names = _names(dead)
    try:
        body = msgspec.json.decode(bytes(dead.body))
    except (msgspec.DecodeError, RecursionError) as error:
        if names:
            raise _refusal("it is not JSON, and some of its fields are sensitive") from error
        return bytes(dead.body).decode("utf-8", "replace")
    return msgspec.json.format(msgspec.json.encode(masked(body, names)), indent=2).decode()


def edited(dead: DeadLetter, text: str) -> bytes:
    """Return the body that ``text`` stands for: what is still masked keeps its value."""
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(f"the text is not JSON: {error}") from error
    names = _names(dead)
    try:
        original = msgspec.json.decode(bytes(dead.body))
    except msgspec.DecodeError:
        original = None
    return msgspec.json.encode(_restored(body, original, names) if names else body)


def _restored(value: Any, original: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        before = original if isinstance(original, dict) else {}
        return {key: _kept(key, item, before, names) for key, item in value.items()}
    if isinstance(value, list):
        befores = original if isinstance(original, list) else []
        if _hides(value) and len(befores) != len(value):
            raise _refusal("a list that holds masked values has another length: which is which is not known")
        pairs = zip(value, befores, strict=False) if _hides(value) else ((item, None) for item in value)
        return [_restored(item, before, names) for item, before in pairs]
    return value


def _kept(key: str, item: Any, before: dict[str, Any], names: frozenset[str]) -> Any:
    if key not in names:
        return _restored(item, before.get(key), names)
    if item != MASK:
        return item
    if key not in before:
        raise _refusal(f"{key} is masked and had no value before")
    return before[key]


def _hides(value: Any) -> bool:
    """Whether something in ``value`` is masked."""
    if isinstance(value, dict):
        return any(_hides(item) for item in value.values())
    return any(_hides(item) for item in value) if isinstance(value, list) else value == MASK


def _names(dead: DeadLetter) -> frozenset[str]:
    cls = by_alias(dead.alias)
    try:
        return sensitive_names(cls) if cls else frozenset()
    except (NameError, TypeError) as error:
        raise _refusal(f"what is sensitive in it is not known: {error}") from error


def _refusal(why: str) -> MessagingError:
    return MessagingError("the message cannot be edited here", why=why)
