"""Bodies: JSON by msgspec, strict on reading, with older versions lifted by upcasters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from django.db.models import Model, QuerySet
from django.utils.functional import Promise, SimpleLazyObject
from django.utils.safestring import SafeString

from koan_django.core.exceptions import RegistrationError
from koan_django.core.redaction import redact
from koan_django.core.texts import counted

from .exceptions import UnreadableMessageError
from .markers import Header, Marker
from .masking import hints_of, masked, sensitive_names

if TYPE_CHECKING:
    from .messages import Message

M = TypeVar("M", bound="Message")
Upcast = Callable[[dict[str, Any]], dict[str, Any]]

#: Of these each value is allowed, where nothing more is said about a field. A ``float`` may be no number.
_EXACT = (bool, int, str)
#: Beyond these an integer may have more digits than can be read.
_LEAST, _MOST = -(2**63), 2**64 - 1

_upcasts: dict[type[Message], dict[int, Upcast]] = {}


def upcaster(cls: type[Message], *, from_version: int) -> Callable[[Upcast], Upcast]:
    """Register the step from ``from_version`` of the body to the next one. It takes and returns plain JSON."""

    from .messages import version_of

    def decorate(function: Upcast) -> Upcast:
        version = version_of(cls)
        if not 1 <= from_version < version:
            raise RegistrationError(
                f"{cls.__name__} has no version {from_version} to lift", why=f"its version is {version}"
            )
        _upcasts.setdefault(cls, {})[from_version] = function
        return function

    return decorate


def missing_upcasts(cls: type[Message]) -> list[int]:
    """Return the versions that a chain with a gap leaves out; a class without upcasters has no chain."""
    known = _upcasts.get(cls, {})
    return [version for version in range(min(known), cls._meta.version) if version not in known] if known else []


def lifts(cls: type[Message], version: int) -> bool:
    """Whether upcasters lead from ``version`` to the current one."""
    known = _upcasts.get(cls, {})
    return all(step in known for step in range(version, cls._meta.version))


def encode(message: Message) -> bytes:
    """Return the body of ``message``.

    Raises ``TypeError`` for a value that its field does not allow: the constructor of a struct checks nothing, and
    what is not noticed here is somebody's dead letter later.
    """
    try:
        body = _encoder.encode(message)
        if _is_exact(message):
            return body
        decoder(type(message)).decode(body)
        if b"null" in body:  # what JSON has no number for is written as null
            _refuse_nan(msgspec.to_builtins(message, enc_hook=_hook), "$")
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"{type(message).__name__} cannot be sent: {error}") from None
    return body


def _is_exact(message: Message) -> bool:
    """Whether each field holds what its type says, as far as a look can tell: most messages need not be read back."""
    kinds = _exact_kinds(type(message))
    if kinds is None:
        return False
    for name, kind in kinds:
        value: Any = getattr(message, name)
        is_exact = type(value) is kind
        if not is_exact or (kind is int and not _LEAST <= value <= _MOST):
            return False
    return True


@cache
def _exact_kinds(cls: type[Message]) -> tuple[tuple[str, type], ...] | None:
    """The fields of ``cls`` with their types, if each value of such a type is allowed and is written as what it is."""
    if hasattr(cls, "__post_init__"):  # which may refuse what it is given, or change it
        return None
    try:
        hints = hints_of(cls)
    except (NameError, TypeError):  # the decoder says what is wrong
        return None
    found = []
    for name in cls.__struct_fields__:
        hint, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not any(hint is kind for kind in _EXACT) or not all(isinstance(each, Marker | Header) for each in extras):
            return None
        found.append((name, hint))
    return tuple(found)


@cache
def decoder(cls: type[Message]) -> msgspec.json.Decoder[Any]:
    """Return the strict decoder of ``cls``; unknown fields are ignored, so that producers may deploy first."""
    return msgspec.json.Decoder(cls)


def decode(cls: type[M], body: bytes, version: int) -> M:
    """Read ``body``, written as ``version``; raises :class:`UnreadableMessageError` with the path of the trouble."""
    current = cls._meta.version
    try:
        if version < current and cls in _upcasts:
            return msgspec.convert(_lift(cls, msgspec.json.decode(body), version, current), cls)
        found: M = decoder(cls).decode(body)
        return found
    except MemoryError:
        raise
    except Exception as error:  # an upcaster may raise anything
        why = str(error) or type(error).__name__
        if version > current:
            why = f"version {version} is newer than {current}: {why}"
        raise UnreadableMessageError(
            f"the body is not a {cls._meta.alias}",
            why=why,
            fix="Correct the sender, or add an upcaster, and replay the dead letter.",
        ) from error


def readable(body: bytes, cls: type[Message] | None) -> Any:
    """Return ``body`` for people: parsed if it can be, with sensitive fields masked."""
    try:
        names = sensitive_names(cls) if cls else frozenset()
    except (NameError, TypeError) as error:
        return f"{counted(len(body), 'byte')}, not shown: what is sensitive in them is not known ({error})"
    try:
        return redact(masked(msgspec.json.decode(body), names))
    except (msgspec.DecodeError, RecursionError):
        if names:
            return f"{counted(len(body), 'byte')}, not shown: they are not JSON, and some of the fields are sensitive"
        return redact(body[:2000].decode("utf-8", "replace"))


def _lift(cls: type[Message], body: dict[str, Any], version: int, current: int) -> dict[str, Any]:
    for step in range(version, current):
        if step not in _upcasts[cls]:
            raise ValueError(f"nothing lifts version {step} to {step + 1}")
        body = _upcasts[cls][step](body)
    return body


def _refuse_nan(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{value} is no number that JSON can hold - at `{path}`")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nan(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nan(item, f"{path}[...]")


def _hook(value: object) -> object:
    """What msgspec does not know: lazy and safe text become text, anything of the database is refused."""
    if isinstance(value, Promise):
        return str(value)
    if type(value) is SafeString:
        return str.__str__(value)  # its own returns itself
    if isinstance(value, SimpleLazyObject | QuerySet):
        raise TypeError(f"a {type(value).__name__} cannot travel in a message: send primary keys")
    if isinstance(value, Model):
        raise TypeError(
            f"a {value._meta.label} instance cannot travel in a message: send its primary key (pk={value.pk!r})"
        )
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} cannot travel in a message")


_encoder = msgspec.json.Encoder(enc_hook=_hook)
