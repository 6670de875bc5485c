"""The connection that the stores share: that of a cache of django-redis."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.utils.module_loading import import_string
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from redis.exceptions import RedisError

from koan_django.core import clock
from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """``cache`` is an alias of ``CACHES``; ``prefix`` begins the keys, so that projects may share a server."""

    cache: str = "default"
    prefix: str = "koan"

    def __post_init__(self) -> None:
        if not self.prefix or set("{} ") & set(self.prefix):
            raise ValueError("PREFIX must be text without braces and blanks")


class RedisStore:
    """Keeps everything of one kind in one hash or below one prefix. Each verb is one script, in the server's clock."""

    schema: ClassVar[type] = RedisOptions
    keeps: ClassVar[str]

    def __init__(self, options: RedisOptions) -> None:
        self.options = options

    def objections(self) -> Iterable[str]:
        """Yield what is wrong with the cache alias."""
        alias = self.options.cache
        if alias not in settings.CACHES:
            yield f"settings.CACHES has no alias {alias!r}{did_you_mean(alias, settings.CACHES)}"
        elif not _is_django_redis(settings.CACHES[alias]["BACKEND"]):
            yield f"settings.CACHES[{alias!r}] is not a cache of django-redis"

    def probe(self) -> None:
        """Raise :class:`StoreUnavailableError` unless Redis answers."""
        with self.answering():
            self.client.ping()

    @property
    def key(self) -> str:
        """The hash of this store."""
        return f"{self.options.prefix}:{self.keeps}"

    @property
    def client(self) -> Any:
        """The client of the cache; its pool survives a fork."""
        return get_redis_connection(self.options.cache)

    def run(self, script: str, *arguments: object, keys: list[str] | None = None) -> Any:
        """Run ``script`` on the hash, or on ``keys``; raises :class:`StoreUnavailableError`."""
        if clock.is_moved():  # as the queries of rows do
            seconds, micros = divmod(int(clock.now().timestamp() * 1e6), 1_000_000)
            script = script.replace("redis.call('TIME')", f"{{{seconds}, {micros}}}")
        with self.answering():
            return self._scripts(script)(keys=keys or [self.key], args=list(arguments))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what Redis raises into :class:`StoreUnavailableError`."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(
                f"the store of {self.keeps} in Redis (the cache {self.options.cache!r}) does not answer",
                why=f"{type(error).__name__}: {error}",
                fix="See that Redis runs and that the cache may use it; nothing is taken for granted meanwhile.",
            ) from error

    def _scripts(self, text: str) -> Any:
        found = self._registered.get(text)
        return self._registered.setdefault(text, self.client.register_script(text)) if found is None else found

    @cached_property
    def _registered(self) -> dict[str, Any]:
        return {}


def text_of(value: Any) -> str:
    """Return what Redis answered as text, whether the cache's client decodes it or not."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_django_redis(backend: str) -> bool:
    try:
        return issubclass(import_string(backend), RedisCache)
    except (ImportError, TypeError):
        return False
