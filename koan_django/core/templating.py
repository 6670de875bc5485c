"""References inside text: ``{{secret:path}}``.

Core knows the outer form only. Whoever owns a kind registers its resolver, so that an app can use a template without
importing a sibling. ``\\{{secret:x}}`` is the text ``{{secret:x}}`` itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .exceptions import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable

    #: Receives what stands behind the colon, and whether the reference is part of a URL's user and password.
    Resolver = Callable[[str, bool], str]

_REFERENCE = re.compile(r"(?P<escape>\\?)\{\{\s*(?P<kind>[a-z][a-z0-9_]*):(?P<body>[^{}]+?)\s*\}\}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_resolvers: dict[str, Resolver] = {}


class TemplateError(PermanentError):
    """A reference names a kind that nobody resolves."""


def register(kind: str, resolver: Resolver) -> None:
    """Let ``resolver`` answer the references of ``kind``."""
    _resolvers[kind] = resolver


def has_reference(text: str) -> bool:
    """Whether ``text`` holds a reference that :func:`render` would replace."""
    return any(not found["escape"] for found in _REFERENCE.finditer(text))


def references(text: str) -> list[tuple[str, str]]:
    """Return the (kind, body) of each reference in ``text``, in order."""
    return [(found["kind"], found["body"]) for found in _REFERENCE.finditer(text) if not found["escape"]]


def render(text: str) -> str:
    """Return ``text`` with each reference resolved; raises what the resolver raises."""
    scheme = _SCHEME.match(text)
    authority_end = _authority_end(text, scheme.end()) if scheme else -1

    def replace(found: re.Match[str]) -> str:
        if found["escape"]:
            return found[0][1:]
        resolver = _resolvers.get(found["kind"])
        if resolver is None:
            raise TemplateError(
                f"{found[0]} cannot be resolved",
                why=f"nothing resolves references of the kind {found['kind']!r}",
                fix="Add 'koan_django.secrets' to INSTALLED_APPS.",
            )
        return resolver(found["body"], found.end() <= authority_end)

    return _REFERENCE.sub(replace, text)


def _authority_end(text: str, start: int) -> int:
    """Where the user and password of a URL end, seen on the template: a reference may itself hold ``/`` or ``@``."""
    blanked = _REFERENCE.sub(lambda found: "x" * len(found[0]), text)
    path = re.search(r"[/?#]", blanked[start:])
    end = start + path.start() if path else len(text)
    return blanked.rfind("@", start, end)
