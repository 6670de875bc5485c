"""The HTTP API of RabbitMQ's management plugin, read only.

Whatever keeps it from answering is an :class:`InspectionError`: a broker that could not be read is never taken for an
empty one.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from kombu.utils.url import url_to_parts

from koan_django.core.reading import read_all
from koan_django.core.redaction import redact_text
from koan_django.core.templating import render
from koan_django.messaging.exceptions import InspectionError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

#: For one answer, all of it.
TIMEOUT_SECONDS = 5.0
PORT, TLS_PORT = 15672, 15671
#: More than ten thousand queues have.
MAX_BYTES = 64 * 1024 * 1024
_SAID = {
    401: "it does not know the user, or the user has no tag 'management'",
    403: "the user may not see that",
    404: "there is no such virtual host, or no management API at that address",
}


@dataclass(frozen=True, slots=True)
class Management:
    """Where the API of a broker is, and whom it is asked for."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    secure: bool = False
    path: str = ""
    timeout: float = TIMEOUT_SECONDS

    @property
    def place(self) -> str:
        """Its address without user and password."""
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}{self.path}"

    def get(self, *parts: str) -> Any:
        """Return the answer below ``/api``; the parts of the path are quoted here.

        Raises :class:`InspectionError` when there is none within the timeout, or none that can be read.
        """
        path = f"{self.path}/api/" + "/".join(quote(part, safe="") for part in parts)
        try:
            status, content = self._ask(path, time.monotonic() + self.timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unknown(f"{type(error).__name__}: {redact_text(str(error))}") from None
        if status != http.client.OK:
            raise self._unknown(f"it answered {status}: {_SAID.get(status, 'something is wrong there')}")
        try:
            return json.loads(content)
        except ValueError:
            raise self._unknown("what it answered is no JSON: something else listens there") from None

    def _ask(self, path: str, deadline: float) -> tuple[int, bytes]:
        """One connection for each question; redirects and proxies are not followed, they would learn the password."""
        connection = self._connection()
        try:
            pair = f"{self.user}:{self.password}".encode()
            connection.request("GET", path, headers={"Authorization": "Basic " + base64.b64encode(pair).decode()})
            with connection.getresponse() as answer:
                return answer.status, read_all(answer, deadline=deadline, most=MAX_BYTES)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def _unknown(self, why: str) -> InspectionError:
        return InspectionError(
            f"what stands on the broker is unknown: the management API at {self.place} did not tell",
            why=why,
            fix="Enable the plugin rabbitmq_management, and give the bus a MANAGEMENT URL with a user that may read.",
        )


def management_of(amqp: str, given: str | None) -> Management:
    """Return the API of the broker at the URL ``amqp``: at ``given``, or on the usual port of the same host.

    Secrets in both are resolved now. Without a user in ``given`` it is that of ``amqp``.
    """
    try:
        _, host, _, user, password, *_ = url_to_parts(render(amqp))
        secure = amqp.lower().startswith("amqps:")
        usual = Management(
            host or "localhost", TLS_PORT if secure else PORT, user or "guest", password or "guest", secure
        )
        return usual if given is None else _at(urlsplit(render(given)), usual)
    except ValueError:  # its text may quote a piece of the password
        raise InspectionError(
            "what stands on the broker is unknown: its URL or that of the management API cannot be read",
            fix="Percent-encode what is reserved in its user and password.",
        ) from None


def vhost_of(amqp: str) -> str:
    """Return the virtual host that the URL names."""
    try:
        return url_to_parts(render(amqp))[5] or "/"
    except ValueError:
        raise InspectionError("the virtual host is unknown: the URL of the bus cannot be read") from None


def _at(given: SplitResult, usual: Management) -> Management:
    if given.scheme not in ("http", "https"):
        raise ValueError("no address of the web")
    secure = given.scheme == "https"
    if given.username is None:
        user, password = usual.user, usual.password
    else:
        user, password = unquote(given.username), unquote(given.password or "")
    port = given.port or (TLS_PORT if secure else PORT)
    return Management(given.hostname or usual.host, port, user, password, secure, given.path.rstrip("/"))
