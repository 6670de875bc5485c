"""The store of another project: a client of the inbox over HTTP."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from koan_django.core.breaker import BreakerOpenError, breaker
from koan_django.core.exceptions import KoanError, LeaseLostError, StoreUnavailableError
from koan_django.core.redaction import redact_text, register_value
from koan_django.core.retry import RetryPolicy
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.templating import forget_values, has_reference, render
from koan_django.inbox.discovery import finding
from koan_django.inbox.discovery.finding import SCHEME
from koan_django.inbox.discovery.options import NAME

from .base import Begun, Figures, Lease, Seen, overtaken
from .calling import Address, Answer, Unanswered, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from koan_django.inbox.scopes import Scope

_WEB = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.IGNORECASE)
_DISCOVERED = re.compile(rf"{SCHEME}({NAME.pattern})")
#: Whoever may ask at all is told of this key, or that it is not theirs.
_PROBE = "probe"
#: What may be better at another attempt.
_TOO_MANY = 429
_PASSING = frozenset({_TOO_MANY, 500, 502, 503, 504})
_breaker = breaker("inbox.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """``url`` is what stands before ``v1/inbox``, or ``discover:`` and the name of a service that is looked for.

    Both may hold secret references, resolved with each call.
    """

    url: str = field(repr=False)
    token: str = field(repr=False)
    #: For one request, from the connection to the last byte of the answer.
    timeout: timedelta = timedelta(seconds=5)
    retry: RetryPolicy = field(
        default_factory=lambda: RetryPolicy(
            max_attempts=3, first_delay=timedelta(milliseconds=100), max_delay=timedelta(seconds=1)
        )
    )

    def __post_init__(self) -> None:
        if not (has_reference(self.url) or self.service or _is_address(self.url)):
            raise ValueError(
                "URL must be http:// or https:// with a host, and no user, query or fragment, or discover:NAME"
            )
        if not self.token:
            raise ValueError("TOKEN must not be empty")
        if not timedelta(milliseconds=100) <= self.timeout <= timedelta(seconds=60):
            raise ValueError("TIMEOUT must be between 100 ms and 60 s")

    @property
    def service(self) -> str:
        """The name of the service that is looked for; empty where the address is known."""
        found = _DISCOVERED.fullmatch(self.url)
        return found[1] if found else ""


class HttpStore:
    """One request for each piece of work, those of one call over one connection.

    An answer that was lost on the way leaves a lease that ends by itself: the work is done later, never twice.
    """

    schema: ClassVar[type] = HttpOptions

    def __init__(self, options: HttpOptions) -> None:
        self.options = options

    def objections(self) -> Iterable[str]:
        """Nothing that the options do not say themselves."""
        return ()

    def commits_with(self, using: str) -> bool:
        """No transaction reaches over there."""
        return False

    def probe(self) -> None:
        with self._calls() as calls:
            calls.get(_PROBE, expected=(200, 403))

    def refused(self, places: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of ``places``, as (bus, group), that the token is not good for."""
        with self._calls() as calls:
            return [each for each in places if calls.get(":".join((*each, _PROBE)), expected=(200, 403)).status == 403]

    def look(self, scope: Scope) -> Seen:
        with self._calls() as calls:
            found = calls.get(key_of(scope)).body
        return Seen(
            found["status"].lower(),
            held=bool(found["leased"]),
            attempts=found["attempts"],
            duplicates=found["duplicates"],
            first_seen_at=_moment(found["firstSeen"]),
            processed_at=_moment(found["processedAt"]),
        )

    def begin(self, scopes: Sequence[Scope], ttl: timedelta) -> list[Begun]:
        begun: list[Begun] = []
        try:
            with self._calls() as calls:
                for scope in scopes:
                    begun.append(_begin(calls, key_of(scope), ttl))  # noqa: PERF401  # what there is, is given back
        except STORE_ERRORS:
            with suppress(*STORE_ERRORS):
                self.release([each.lease for each in begun if each.lease is not None])
            raise
        return begun

    def renew(self, leases: Sequence[Lease]) -> None:
        self._each(leases, "renew", seconds=True)

    def finish(self, leases: Sequence[Lease]) -> None:
        self._each(leases, "mark-processed")

    def release(self, leases: Sequence[Lease]) -> None:
        with suppress(LeaseLostError):
            self._each(leases, "release")

    def count_duplicates(self, scopes: Sequence[Scope]) -> None:
        """Nothing: the service counts those that it is asked about."""

    def figures(self) -> Figures:
        """Nothing: what is remembered is the service's own affair."""
        return Figures()

    def _each(self, leases: Sequence[Lease], operation: str, *, seconds: bool = False) -> None:
        """Do it to every lease, and say then whether one was lost."""
        lost = False
        with self._calls() as calls:
            for lease in leases:
                body: dict[str, Any] = {"key": lease.fingerprint, "fencingToken": lease.token}
                if seconds:
                    body["leaseSeconds"] = _seconds(lease.ttl)
                answer = calls.post(operation, body, expected=(200, 409))
                heard = answer.status == 200 or (answer.repeated and answer.code == "already-processed")
                lost = lost or not (heard or (operation == "release" and answer.repeated))
        if lost:
            raise overtaken()

    def _calls(self) -> _Calls:
        return _Calls(self.options)


class _Calls:
    """Requests over one connection, each with its attempts."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self._address: Address | None = None
        #: Where a service was found.
        self._found = ""

    def __enter__(self) -> _Calls:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def get(self, key: str, expected: tuple[int, ...] = (200,)) -> Answer:
        return self._call("GET", key, None, expected)

    def post(self, operation: str, body: Mapping[str, Any], expected: tuple[int, ...] = (200,)) -> Answer:
        return self._call("POST", operation, body, expected)

    def _call(self, method: str, name: str, body: Mapping[str, Any] | None, expected: tuple[int, ...]) -> Answer:
        try:
            with _breaker.guard():
                return self._attempts(method, name, body, expected)
        except BreakerOpenError as error:
            raise StoreUnavailableError(error.what, why=error.why, fix=error.fix) from None

    def _attempts(self, method: str, name: str, body: Mapping[str, Any] | None, expected: tuple[int, ...]) -> Answer:
        policy, attempt, renewed, left = self._options.retry, 1, False, False
        while True:
            try:
                address = self._address or self._resolved()
                answer = address.ask(method, name, body, repeated=attempt > 1)
                if answer.status in expected:
                    return answer
                why, passing = f"it answered {answer.status} {answer.code}".rstrip(), answer.status in _PASSING
                fails = passing and answer.status != _TOO_MANY
                if answer.status == 401 and not renewed:  # the token may have rotated meanwhile
                    renewed = True
                    self._close()
                    forget_values()
                    continue
            except Unanswered as error:
                why, passing, fails = str(error), True, True
            attempt += 1
            if fails and not left:
                left = True
                self._leave()
            if not passing or not policy.allows(attempt):
                raise self._unavailable(why)
            time.sleep(policy.jittered(attempt).total_seconds())

    def _resolved(self) -> Address:
        service = self._options.service
        if service:
            self._found = finding.find(service)
        try:
            url, token = self._found or render(self._options.url), str(render(self._options.token))
        except KoanError as error:
            raise Unanswered(redact_text(str(error))) from None
        register_value(token)
        self._address = address_of(url, token, self._options.timeout)
        return self._address

    def _leave(self) -> None:
        """A service that was found has failed: another one is looked for."""
        if self._found:
            finding.failed(self._options.service, self._found)
            self._found = ""
            self._close()

    def _close(self) -> None:
        if self._address is not None:
            self._address.close()
            self._address = None

    def _unavailable(self, why: str) -> StoreUnavailableError:
        place = self._address.place if self._address is not None else "its address"
        fix = "See that the service runs, and that TOKEN and its scopes are those it knows."
        return StoreUnavailableError(f"the inbox at {place} cannot be asked", why=why, fix=fix)


def _is_address(url: str) -> bool:
    try:
        return _WEB.fullmatch(url) is not None and urlsplit(url).port != 0
    except ValueError:  # the port is none
        return False


def key_of(scope: Scope) -> str:
    """Return the key of ``scope`` at the service: bus and group, for the scopes of tokens, and the fingerprint."""
    place = f"{scope.bus}:{scope.group}" if scope.bus else "claim"
    return f"{place}:{scope.fingerprint}"


def _begin(calls: _Calls, key: str, ttl: timedelta) -> Begun:
    found = calls.post("try-begin", {"key": key, "leaseSeconds": _seconds(ttl)}).body
    if found["status"] == "Acquired":
        return Begun("acquired", Lease(key, found["fencingToken"], ttl))
    return Begun("processed" if found["status"] == "Processed" else "busy")


def _seconds(ttl: timedelta) -> int:
    return max(5, round(ttl.total_seconds()))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
