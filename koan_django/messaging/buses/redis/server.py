"""The way to a Redis server: connections by a URL whose secrets are resolved when they are made."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from koan_django.core import clock, process
from koan_django.core.redaction import redact_text
from koan_django.core.rotation import Watched
from koan_django.core.templating import render
from koan_django.messaging.conf import place_of
from koan_django.messaging.exceptions import BusUnavailableError, CapabilityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from koan_django.messaging.conf import BusOptions

CONNECT_SECONDS = 5.0
_TAKEN = "Another program uses a key of the bus: move or delete that key, or give the bus a PREFIX of its own."


class Server:
    """The server of one bus. Clients are kept by process: one that was forked makes its own."""

    def __init__(self, options: BusOptions) -> None:
        self._url = options.url or ""
        self._reply_seconds = options.confirm_timeout.total_seconds()
        self._clients: dict[int, Any] = {}
        self._watched = Watched(self._url, self._rotated)

    @property
    def client(self) -> Any:
        """The client of this process; raises :class:`BusUnavailableError` for a URL that cannot be read."""
        pid = os.getpid()
        found = self._clients.get(pid)
        return found if found is not None else self._clients.setdefault(pid, self._made())

    def forget(self) -> None:
        """Let go of the connections that nobody uses: the next one is made with the secrets of then."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)

    def run(self, script: str, keys: Sequence[str], *arguments: object) -> Any:
        """Run ``script``; raises :class:`BusUnavailableError` when there is no answer."""
        with self.answering():
            client = self.client
            try:
                return client.evalsha(digest(script), len(keys), *keys, *arguments)
            except NoScriptError:
                return client.eval(script, len(keys), *keys, *arguments)

    def load(self, script: str) -> None:
        """Have the server know ``script``."""
        with self.answering():
            self.client.script_load(script)

    def examine(self) -> None:
        """Raise unless the server answers, lets us in, and keeps what it was given."""
        with self.answering():
            policy = str(self.client.info("memory").get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            raise CapabilityError(
                f"the Redis at {place_of(self._url)} is no place for messages",
                why=f"its maxmemory-policy is {policy}: short of memory it would throw messages away",
                fix="Set maxmemory-policy to noeviction, or use another server than that of a cache.",
            )

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what Redis raises into :class:`BusUnavailableError`, and connect anew the next time."""
        try:
            yield
        except (RedisError, OSError) as error:
            self.forget()
            raise BusUnavailableError(
                f"the Redis at {place_of(self._url) or 'its URL'} does not do its work",
                why=f"{type(error).__name__}: {redact_text(str(error))}",
                fix=_TAKEN if "WRONGTYPE" in str(error) else "",
            ) from error

    def doubts(self) -> Iterator[str]:
        """Yield why the server may lose what it accepted."""
        with self.answering():
            persistence = self.client.info("persistence")
        if not persistence.get("aof_enabled"):
            yield "it keeps no append-only file, so it forgets messages when it stops"

    def _rotated(self, url: str) -> None:
        """The URL has other credentials now. They are tried first: until they are good the old connections serve."""
        trial = self._client_of(url)
        try:
            trial.ping()
        finally:
            trial.close()
        self.forget()

    def _made(self) -> Any:
        url = render(self._url)
        made = self._client_of(url)
        self._watched.use(url)
        return made

    def _client_of(self, url: str) -> Any:
        try:
            return Redis.from_url(
                url,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=self._reply_seconds,
                client_name=process.identity(),
                retry=Retry(NoBackoff(), 0),  # whether to try again is decided by whoever knows what it does
                decode_responses=False,
            )
        except ValueError:  # its text may quote a piece of the password
            raise BusUnavailableError(
                f"the Redis at {place_of(self._url) or 'its URL'} cannot be reached",
                why="the URL cannot be read",
                fix="Percent-encode what is reserved in its user and password.",
            ) from None


@cache
def digest(script: str) -> str:
    """Return what ``script`` is called by on a server that has seen it."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def moved_time() -> str:
    """Return the time in milliseconds where a test has moved the clocks, else nothing: the server has its own."""
    return str(int(clock.now().timestamp() * 1000)) if clock.is_moved() else ""
