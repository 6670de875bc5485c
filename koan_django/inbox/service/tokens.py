"""Who asks: bearer tokens, each with the keys that it is good for."""

from __future__ import annotations

import hashlib
import hmac
import logging
from typing import TYPE_CHECKING

from koan_django.core.exceptions import KoanError
from koan_django.core.redaction import redact_text, register_value
from koan_django.core.templating import render
from koan_django.inbox.conf import options

from .options import SHORTEST_TOKEN
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

#: The scope of a token that is good for every key.
EVERYTHING = "*"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="inbox"'}


def authenticate(header: str) -> str:
    """Return the name of the token in an ``Authorization`` header; raises :class:`Problem`.

    All tokens are compared, each in constant time, so that the time tells neither which one it nearly was nor how much
    of it. A token is rendered for each request, by a resolver that keeps what it knows: one that has rotated counts
    from then on.
    """
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise Problem(401, "no-token", "Authorization: Bearer TOKEN is missing", _CHALLENGE)
    digest, found, unknown = _digest(given.strip()), "", False
    for name, token in _rendered():
        if token is None:
            unknown = True
        elif hmac.compare_digest(digest, _digest(token)):
            found = name
    if found:
        return found
    if unknown:
        raise Problem(503, "no-tokens", "Tokens cannot be checked now; the log says why", {"Retry-After": "5"})
    raise Problem(401, "wrong-token", "The token is not known", _CHALLENGE)


def allow(name: str, key: str) -> None:
    """Raise :class:`Problem` unless the token called ``name`` is good for ``key``."""
    scopes = options().service.tokens[name].scopes
    if not any(scope == EVERYTHING or key.startswith(scope) for scope in scopes):
        raise Problem(403, "out-of-scope", "The token is not good for this key")


def _rendered() -> Iterator[tuple[str, str | None]]:
    """The tokens by name; ``None`` stands for one that is not known now, or of no use."""
    tokens = options().service.tokens
    if not tokens:
        logger.error("The inbox service lets nobody in: KOAN['INBOX']['SERVICE']['TOKENS'] is empty")
        yield "", None
    for name, each in tokens.items():
        try:
            token = render(each.token)
        except KoanError as error:
            logger.error("The token %r of the inbox service is not known: %s", name, redact_text(str(error)))
            yield name, None
            continue
        if len(token) < SHORTEST_TOKEN:
            logger.error("The token %r of the inbox service is shorter than %d characters", name, SHORTEST_TOKEN)
            yield name, None
            continue
        register_value(str(token))
        yield name, token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
