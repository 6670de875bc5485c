"""Lets a person correct the body of a dead letter without being shown what is sensitive in it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from koan_django.core.redaction import MASK
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.masking import masked, sensitive_names
from koan_django.messaging.messages import by_alias

if TYPE_CHECKING:
    from koan_django.messaging.models import DeadLetter

#: Numbers keep every digit that was written.
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def editable(dead: DeadLetter) -> str:
    """Return the body as indented JSON with its sensitive fields masked.

    Raises :class:`MessagingError` for a body that cannot be shown without them.
    """
    names = _names(dead)
    try:
        shown = _encoder.encode(masked(_decoder.decode(bytes(dead.body)), names))
        return msgspec.json.format(shown, indent=2).decode()
    except (msgspec.MsgspecError, RecursionError) as error:
        if names:
            raise _refusal("it cannot be read as JSON, and some of its fields are sensitive") from error
        return bytes(dead.body).decode("utf-8", "replace")


def edited(dead: DeadLetter, text: str) -> bytes:
    """Return the body that ``text`` stands for: what is still masked keeps its value.

    Raises :class:`MessagingError` for a text that is not JSON, or in which it is not known what a mask stands for.
    """
    if text.splitlines() == editable(dead).splitlines():  # a form may send other ends of lines
        return bytes(dead.body)
    try:
        body = _decoder.decode(text)
        names = _names(dead)
        return _encoder.encode(_restored(body, _original(dead), names) if names else body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _refusal(f"the text is not JSON that a message can hold: {error}") from error


def _original(dead: DeadLetter) -> Any:
    try:
        return _decoder.decode(bytes(dead.body))
    except msgspec.MsgspecError:
        return None


def _restored(value: Any, original: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        before = original if isinstance(original, dict) else {}
        return {key: _kept(key, item, before, names) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    befores = original if isinstance(original, list) else []
    return [_item(item, befores[at] if at < len(befores) else None, names) for at, item in enumerate(value)]


def _item(item: Any, before: Any, names: frozenset[str]) -> Any:
    """An item of a list is known by its place only: one that was moved must not get the secrets of another."""
    if _hides(item) and item != masked(before, names):
        raise _refusal("an item of a list was changed or moved while values in it are masked: write those out")
    return _restored(item, before, names)


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
