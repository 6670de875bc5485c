"""References inside text: ``{{secret:path}}``, ``${secret://path}``, or a whole text ``secret://path``.

Core knows the outer forms only. Whoever owns a kind registers its resolver, so that an app can use a template without
importing a sibling. ``\\{{secret:x}}`` is the text ``{{secret:x}}`` itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .exceptions import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    #: Receives what stands behind the colon (of a URI, all of it), and whether the reference is part of a URL's user
    #: and password.
    Resolver = Callable[[str, bool], str]

_URI = r"[a-z][a-z0-9_]*(?:\+[A-Za-z0-9_-]+)?://"
# The body ends with what is no blank: a lazy one before \s* would take time by the square of a run of blanks.
_REFERENCE = re.compile(
    r"(?P<escape>\\?)(?:\{\{\s*(?P<kind>[a-z][a-z0-9_]*):(?P<body>[^{}]*[^{}\s]|\s)\s*\}\}|\$\{(?P<uri>"
    + _URI
    + r"[^{}]+)\})"
)
_WHOLE = re.compile(rf"(?P<uri>{_URI}[^\s{{}}]+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_KIND = re.compile(r"[a-z][a-z0-9_]*")
_resolvers: dict[str, Resolver] = {}
_forgets: dict[str, Callable[[], None]] = {}


class TemplateError(PermanentError):
    """A reference names a kind that nobody resolves."""


def register(kind: str, resolver: Resolver, forget: Callable[[], None] | None = None) -> None:
    """Let ``resolver`` answer the references of ``kind``; ``forget`` drops the values that it keeps."""
    _resolvers[kind] = resolver
    if forget is not None:
        _forgets[kind] = forget


def forget_values() -> None:
    """Have every resolver ask anew: a value that it kept is not right any more."""
    for forget in tuple(_forgets.values()):
        forget()


def is_template(text: str, *, kind: str | None = None) -> bool:
    """Whether :func:`render` would change ``text``, by a reference or by an escape."""
    found = (
        [whole] if (whole := _whole(text)) else [_split(each) for each in _REFERENCE.finditer(text) if _is_ours(each)]
    )
    return any(kind in (None, its_kind) for its_kind, _body in found)


def has_reference(text: str) -> bool:
    """Whether ``text`` holds a reference that :func:`render` would replace."""
    return bool(references(text))


def references(text: str) -> list[tuple[str, str]]:
    """Return the (kind, body) of each reference in ``text``, in order."""
    whole = _whole(text)
    return [whole] if whole else list(_inner(text))


def unresolved(text: str) -> list[str]:
    """Return the kinds in ``text`` that nobody resolves: :func:`render` would raise."""
    return [kind for kind, _body in references(text) if kind not in _resolvers]


def render(text: str, resolvers: Mapping[str, Resolver] | None = None) -> str:
    """Return ``text`` with each reference resolved.

    With ``resolvers`` these answer, and references of other kinds stay as they are. Otherwise the registered ones do,
    and :class:`TemplateError` is raised for a kind that nobody resolves. What a resolver raises passes through.
    """
    known = _resolvers if resolvers is None else resolvers
    whole = _whole(text)
    if whole is not None:
        return known[whole[0]](whole[1], False) if whole[0] in known else text
    scheme = _SCHEME.match(text)
    authority_end = _authority_end(text, scheme.end()) if scheme else -1

    def replace(found: re.Match[str]) -> str:
        kind, body = _split(found)
        if not _is_ours(found) or (resolvers is not None and kind not in resolvers):
            return found[0]
        if found["escape"]:
            return found[0][1:]
        if kind not in known:
            raise _nobody(found[0], kind)
        return known[kind](body, found.end() <= authority_end)

    return _REFERENCE.sub(replace, text)


def _inner(text: str) -> Iterator[tuple[str, str]]:
    for found in _REFERENCE.finditer(text):
        if _is_ours(found) and not found["escape"]:
            yield _split(found)


def _whole(text: str) -> tuple[str, str] | None:
    """The kind and the URI of a text that is one URI of a registered kind and nothing else."""
    found = _WHOLE.fullmatch(text)
    kind = _kind_of(text) if found else ""
    return (kind, text) if kind in _resolvers else None


def _is_ours(found: re.Match[str]) -> bool:
    """``${x://…}`` is the form of many others too, so it counts for a registered kind only."""
    return found["kind"] is not None or _kind_of(found["uri"]) in _resolvers


def _split(found: re.Match[str]) -> tuple[str, str]:
    if found["kind"] is not None:
        return found["kind"], found["body"]
    return _kind_of(found["uri"]), found["uri"]


def _kind_of(uri: str) -> str:
    found = _KIND.match(uri)
    return found[0] if found else ""


def _nobody(reference: str, kind: str) -> TemplateError:
    return TemplateError(
        f"{reference} cannot be resolved",
        why=f"nothing resolves references of the kind {kind!r}",
        fix="Add 'koan_django.secrets' to INSTALLED_APPS.",
    )


def _authority_end(text: str, start: int) -> int:
    """Where the user and password of a URL end, seen on the template: a reference may itself hold ``/`` or ``@``."""
    blanked = _REFERENCE.sub(lambda found: "x" * len(found[0]), text)
    path = re.search(r"[/?#]", blanked[start:])
    end = start + path.start() if path else len(text)
    return blanked.rfind("@", start, end)
