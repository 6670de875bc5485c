"""Signs what is said on the bus, where whoever may publish can say anything."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.keys import resolve_key
from koan_django.inbox.conf import options

from .refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Apart from everything else that somebody may sign with the same key.
_PURPOSE = b"koan.inbox.discovery.1\n"
_SIGNATURE_LENGTH = 64
_SEPARATOR = b"."


def keys() -> list[bytes]:
    """Return the keys of now; raises what resolves them, and :class:`StoreUnavailableError` for one that is too short.

    They are resolved whenever they are used, by a resolver that keeps what it knows: one that has rotated counts then.
    """
    of = "KOAN['INBOX']['DISCOVERY']"
    return [resolve_key(key, of=of, error=StoreUnavailableError) for key in options().discovery.keys]


def signed(content: bytes, key: bytes) -> bytes:
    """Return ``content`` with its signature in front of it."""
    return _signature(content, key) + _SEPARATOR + content


def verified(body: bytes, keys: Sequence[bytes]) -> bytes:
    """Return the content of ``body``, signed by one of ``keys``; raises :class:`RefusedError`.

    All keys are tried, each in constant time.
    """
    given, separator, content = body.partition(_SEPARATOR)
    if not separator or len(given) != _SIGNATURE_LENGTH:
        raise RefusedError("unsigned")
    found = [hmac.compare_digest(given, _signature(content, key)) for key in keys]
    if not any(found):
        raise RefusedError("forged")
    return content


def _signature(content: bytes, key: bytes) -> bytes:
    return hmac.new(key, _PURPOSE + content, hashlib.sha256).hexdigest().encode()
