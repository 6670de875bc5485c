"""The grammar of a reference: ``[provider:]path[#field][@version][?ttl=&default=&encode=]``.

What the grammar uses as a sign (``: / # @ ? & % {`` and ``}``) is percent-encoded where it is meant as itself. The same
secret as a URI is ``secret://path…`` or ``secret+provider://path…``; there ``?version=`` and a field behind the query,
as URIs have them, are read too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, NoReturn, cast, get_args
from urllib.parse import quote, unquote

from koan_django.core.durations import parse_duration
from koan_django.core.suggestions import did_you_mean

from .exceptions import SecretReferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

Encoding = Literal["auto", "none", "url"]

_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_URI = re.compile(r"secret(?:\+(?P<provider>[^:/]*))?://(?P<rest>.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OPTIONS = ("ttl", "default", "encode")


@dataclass(frozen=True)
class SecretReference:
    """Which secret is meant: the path, and what narrows it down.

    ``provider`` forces one provider, which then never falls back to another. ``ttl`` limits how long a value is kept;
    ``default`` stands in when nobody has the secret. ``encode`` says whether a template percent-encodes the value:
    ``auto`` does inside the user and password of a URL.
    """

    path: str
    provider: str = ""
    field: str = ""
    version: str = ""
    ttl: timedelta | None = None
    default: str | None = dataclass_field(default=None, repr=False)
    encode: Encoding = "auto"

    def __post_init__(self) -> None:
        segments = self.path.split("/")
        if not all(segments) or not {".", ".."}.isdisjoint(segments):
            _refuse(self.path, "a path is names joined by single slashes, without '.' and '..'")
        if any(map(_CONTROL.search, (self.path, self.field))):
            _refuse(self.path, "it holds a control character")
        if self.provider and not _ALIAS.fullmatch(self.provider):
            _refuse(self.path, f"{self.provider!r} is no alias of a provider")
        if self.version and not _VERSION.fullmatch(self.version):
            _refuse(self.path, f"{self.version!r} is no version")
        if self.ttl is not None and self.ttl < timedelta(0):
            _refuse(self.path, "ttl is less than 0")
        if self.encode not in get_args(Encoding):
            _refuse(self.path, f"encode is {self.encode!r}, not one of {', '.join(get_args(Encoding))}")

    @cached_property
    def name(self) -> str:
        """What is asked of a provider: ``path[#field][@version]``, without the provider and the options."""
        return _encode(self.path, "/") + "".join(self._narrowed())

    @cached_property
    def asked(self) -> SecretReference:
        """What a provider is asked: path, field and version alone."""
        return SecretReference(self.path, field=self.field, version=self.version)

    def without_field(self) -> SecretReference:
        """Return the reference to the whole secret."""
        return replace(self, field="")

    def _narrowed(self) -> Iterator[str]:
        if self.field:
            yield f"#{_encode(self.field)}"
        if self.version:
            yield f"@{self.version}"

    def _options(self) -> Iterator[str]:
        if self.ttl is not None:
            yield f"ttl={_seconds(self.ttl)}"
        if self.default is not None:
            yield f"default={_encode(self.default)}"
        if self.encode != "auto":
            yield f"encode={self.encode}"

    def __str__(self) -> str:
        """The canonical text, which :func:`parse` reads back to an equal reference."""
        options = "&".join(self._options())
        provider = f"{self.provider}:" if self.provider else ""
        return provider + self.name + (f"?{options}" if options else "")

    def uri(self) -> str:
        """The same as a ``secret://`` URI."""
        options = "&".join(self._options())
        scheme = f"secret+{self.provider}://" if self.provider else "secret://"
        return scheme + self.name + (f"?{options}" if options else "")


@lru_cache(maxsize=4096)
def parse(text: str) -> SecretReference:
    """Read a reference or a URI; raises :class:`SecretReferenceError` that says what is wrong with it."""
    uri = _URI.fullmatch(text.strip())
    if uri is None:
        return _parse(text.strip(), text)
    return _parse_uri(uri["provider"], uri["rest"], text)


def _parse(body: str, text: str) -> SecretReference:
    name, mark, query = body.partition("?")
    options = _read_options(query, text) if mark else {}
    provider, colon, path = name.partition(":")
    if not colon:
        provider, path = "", name
    elif not provider:
        _refuse(text, "the provider before ':' is empty")
    return _build(provider, path, options, text)


def _parse_uri(provider: str | None, rest: str, text: str) -> SecretReference:
    if provider == "":
        _refuse(text, "the provider behind '+' is empty")
    # The empty authority of secret:///scope/name.
    name, mark, query = rest.removeprefix("/").partition("?")
    query, hash_sign, field = query.partition("#")
    options = _read_options(query, text, also=("version",)) if mark else {}
    version = options.pop("version", "")
    if hash_sign:
        name += f"#{field}"
    if version:
        name += f"@{version}"
    return _build(provider or "", name, options, text)


def _build(provider: str, name: str, options: dict[str, str], text: str) -> SecretReference:
    name, at, version = name.partition("@")
    path, hash_sign, field = name.partition("#")
    if (at and not version) or (hash_sign and not field):
        _refuse(text, "the field behind '#' or the version behind '@' is empty")
    encode = cast("Encoding", options.get("encode", "auto"))
    return SecretReference(
        path="/".join(_decode(segment, text) for segment in path.split("/")),
        provider=provider,
        field=_decode(field, text),
        version=version,
        ttl=_read_ttl(options["ttl"], text) if "ttl" in options else None,
        default=options.get("default"),
        encode=encode,
    )


def _read_options(query: str, text: str, also: tuple[str, ...] = ()) -> dict[str, str]:
    known = (*_OPTIONS, *also)
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if name not in known:
            _refuse(text, f"{name!r} is none of its options {', '.join(known)}{did_you_mean(name, known)}")
        if not equals or name in found:
            _refuse(text, f"the option {name!r} has no value or is given twice")
        found[name] = _decode(value, text)
    return found


def _read_ttl(value: str, text: str) -> timedelta:
    try:
        return parse_duration(float(value) if value.replace(".", "", 1).isdecimal() else value)
    except (ValueError, OverflowError) as error:
        _refuse(text, str(error))


def _seconds(ttl: timedelta) -> str:
    seconds, rest = divmod(ttl, timedelta(seconds=1))
    return f"{seconds}.{rest.microseconds:06d}".rstrip("0").rstrip(".")


def _encode(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="strict")


def _decode(text: str, whole: str) -> str:
    if _BAD_PERCENT.search(text):
        _refuse(whole, "a '%' begins no percent-encoding; the sign itself is written '%25'")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        _refuse(whole, "its percent-encoding is not UTF-8")


def _refuse(text: str, why: str) -> NoReturn:
    shown = text.partition("?")[0]  # what follows may be a default that somebody does not want in a log
    raise SecretReferenceError(
        f"{shown!r} is no reference to a secret",
        why=why,
        fix="Write [provider:]path[#field][@version][?ttl=&default=&encode=].",
    )
