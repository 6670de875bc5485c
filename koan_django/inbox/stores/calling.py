"""One connection to one address. No redirect and no proxy is followed: they would learn the token."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from koan_django.core.context import correlation
from koan_django.core.middleware import HEADER
from koan_django.core.reading import read_all
from koan_django.core.redaction import redact_text

if TYPE_CHECKING:
    from datetime import timedelta

#: More than any answer has.
MAX_BYTES = 64 * 1024
#: What everybody may read of a service.
_DOCUMENT = "openapi.json"


class Unanswered(Exception):
    """Nothing was heard, or nothing that the service would say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. ``repeated``: the same was asked before, and whether that was heard is not known."""

    status: int
    body: Mapping[str, Any]
    repeated: bool = False

    @property
    def code(self) -> str:
        """The word of a problem."""
        return str(self.body.get("code", ""))


@dataclass(slots=True)
class Address:
    """Where the service is, and the token that opens it."""

    host: str
    port: int | None
    path: str
    secure: bool
    token: str = field(repr=False)
    timeout: float
    _open: http.client.HTTPConnection | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Its URL."""
        port = "" if self.port is None else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{self.host}{port}{self.path}"

    def ask(self, method: str, name: str, body: Mapping[str, Any] | None, *, repeated: bool) -> Answer:
        """Ask below ``v1/inbox``; raises :class:`Unanswered`. A connection that failed is not used again."""
        content = None if body is None else json.dumps(body).encode()
        status, text = self._exchange(method, name, content, self._headers(body is not None))
        return Answer(status, _read(status, text), repeated)

    def check(self) -> None:
        """Raise :class:`Unanswered` unless an inbox is served there. No token is needed, and none is sent."""
        status, text = self._exchange("GET", _DOCUMENT, None, {"Accept": "application/json"})
        if status != http.client.OK or "openapi" not in _object(text):
            raise Unanswered(f"it answered {status}, and not as an inbox does")

    def _exchange(self, method: str, name: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        deadline = time.monotonic() + self.timeout
        try:
            connection = self._open = self._open or self._connection()
            connection.request(method, f"{self.path}/v1/inbox/{name}", content, headers)
            with connection.getresponse() as response:  # only what is closed frees the connection for the next question
                status, text = response.status, read_all(response, deadline=deadline, most=MAX_BYTES)
            if response.will_close:
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unanswered(f"{type(error).__name__}: {redact_text(str(error))}") from None
        return status, text

    def close(self) -> None:
        """End the connection; the next question opens another."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connection(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def _headers(self, with_body: bool) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if with_body:
            headers["Content-Type"] = "application/json"
        if story := correlation.current():
            headers[HEADER] = story
        return headers


def address_of(url: str, token: str, timeout: timedelta) -> Address:
    """Return the address that ``url`` names; raises :class:`Unanswered` for one that can be none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unanswered("URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise Unanswered("URL must be http:// or https:// with a host, and no user")
    secure = parts.scheme == "https"
    return Address(parts.hostname, port, parts.path.rstrip("/"), secure, token, timeout.total_seconds())


def _read(status: int, text: bytes) -> Mapping[str, Any]:
    """The JSON of an answer; that of an error may come from a proxy, and be anything."""
    found = _object(text)
    if status == http.client.OK and "status" not in found:
        raise Unanswered("what it answered is not the inbox's: something else listens there")
    return found


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
