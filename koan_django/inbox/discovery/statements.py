"""What is said on the bus: pings, answers and announcements; signed, for one tenant and one name, and for a moment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koan_django.core import clock
from koan_django.inbox.conf import options

from .addresses import AddressError, checked
from .refusals import RefusedError
from .signing import signed, verified

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

#: More than any statement has.
MAX_BYTES = 4096
#: The version of the inbox over HTTP that we speak.
PROTOCOL = 1
#: Nobody says anything that is good for longer.
_LONGEST_MS = 30_000
_SHARED = {"kind": str, "tenant": str, "name": str, "issuedAt": int, "expiresAt": int}
_FIELDS: dict[str, dict[str, type]] = {
    "ping": {"nonce": str, "answerTo": str},
    "answer": {"nonce": str, "url": str, "store": str, "instance": str, "protocol": int, "priority": int},
    "announcement": {"url": str, "store": str, "instance": str, "protocol": int, "priority": int},
}


@dataclass(frozen=True, slots=True)
class Ping:
    """A question for services called ``name``. Who answers repeats the nonce, so that no answer serves twice."""

    name: str
    nonce: str
    answer_to: str


@dataclass(frozen=True, slots=True)
class Service:
    """What a service says of itself; ``instance`` is the process that says it."""

    name: str
    url: str
    store: str
    instance: str
    protocol: int = PROTOCOL
    priority: int = 0


def ping(said: Ping, key: bytes) -> bytes:
    """Return the statement that asks."""
    return _written("ping", said.name, {"nonce": said.nonce, "answerTo": said.answer_to}, key)


def answer(said: Service, nonce: str, key: bytes) -> bytes:
    """Return the statement of a service that was asked."""
    return _written("answer", said.name, {"nonce": nonce, **_told(said)}, key)


def announcement(said: Service, key: bytes) -> bytes:
    """Return the statement of a service that was not asked."""
    return _written("announcement", said.name, _told(said), key)


def read_ping(body: bytes, name: str, keys: Sequence[bytes]) -> Ping:
    """Return a question for services called ``name``; raises :class:`RefusedError`."""
    found = _read(body, ("ping",), name, keys)
    return Ping(name, found["nonce"], found["answerTo"])


def read_service(body: bytes, name: str, nonce: str, keys: Sequence[bytes]) -> Service:
    """Return what a service called ``name`` says, asked with ``nonce`` or not; raises :class:`RefusedError`."""
    found = _read(body, ("answer", "announcement"), name, keys)
    if found["kind"] == "answer" and found["nonce"] != nonce:
        raise RefusedError("stray")
    try:
        url = checked(found["url"], options().discovery.hosts)
    except AddressError:
        raise RefusedError("address") from None
    return Service(name, url, found["store"], found["instance"], found["protocol"], found["priority"])


def _told(said: Service) -> dict[str, Any]:
    return {
        "url": said.url,
        "store": said.store,
        "instance": said.instance,
        "protocol": said.protocol,
        "priority": said.priority,
    }


def _written(kind: str, name: str, fields: dict[str, Any], key: bytes) -> bytes:
    now, expiry = _now(), options().discovery.expiry
    shared = {"kind": kind, "tenant": options().discovery.tenant, "name": name}
    times = {"issuedAt": now, "expiresAt": now + _milliseconds(expiry)}
    return signed(json.dumps(shared | times | fields, separators=(",", ":")).encode(), key)


def _read(body: bytes, kinds: Sequence[str], name: str, keys: Sequence[bytes]) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise RefusedError("oversize")
    found = _parsed(verified(body, keys))
    if found["kind"] not in kinds:
        raise RefusedError("unexpected")
    if (found["tenant"], found["name"]) != (options().discovery.tenant, name):
        raise RefusedError("foreign")
    _check_times(found["issuedAt"], found["expiresAt"])
    return found


def _parsed(content: bytes) -> dict[str, Any]:
    """The fields of a statement; what a later version adds to them is left out."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusedError("unreadable") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None or any(type(found.get(each)) is not of for each, of in (_SHARED | fields).items()):
        raise RefusedError("unreadable")
    return {each: found[each] for each in _SHARED | fields}


def _check_times(issued_at: int, expires_at: int) -> None:
    now, skew = _now(), _milliseconds(options().discovery.clock_skew)
    if issued_at > now + skew:
        raise RefusedError("early")
    if expires_at + skew < now or not 0 <= expires_at - issued_at <= _LONGEST_MS:
        raise RefusedError("expired")


def _now() -> int:
    return int(clock.now().timestamp() * 1000)


def _milliseconds(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)
