"""Keeps the values of remote providers: soft and hard time to live, one fetch however many ask."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from koan_django.core import clock

from .exceptions import SecretError, SecretOptionsError, SecretUnavailableError
from .types import SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from .conf import CacheOptions

logger = logging.getLogger(__name__)
#: A provider that did not answer is left alone for so long, in seconds, while the old value serves.
RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A value, or the knowledge that there is none; times are monotonic seconds.

    After ``soft`` it is fetched anew, after ``hard`` it may not serve any more. ``quiet_until`` is set when its
    provider did not answer: until then it is not asked again.
    """

    value: SecretValue | None
    fetched: float
    soft: float
    hard: float
    quiet_until: float = 0.0


class _Flight(Future["SecretValue | None"]):
    """A fetch under way, and the thread that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()


class SecretCache:
    """Values by key. Of those who miss at once, one fetches and the others wait for it.

    While a value is past its soft end, one caller fetches it anew and the others are given the old one.
    """

    def __init__(self, options: CacheOptions, now: Callable[[], float] = clock.monotonic) -> None:
        self._options = options
        self._clock = now
        self._entries: dict[object, Entry] = {}
        self.after_fork()

    def __len__(self) -> int:
        return sum(entry.value is not None for entry in list(self._entries.values()))

    def after_fork(self) -> None:
        """Forget locks and fetches, which belong to threads of the parent; values stay."""
        self._lock = threading.Lock()
        self._flights: dict[object, _Flight] = {}

    def clear(self) -> None:
        """Forget every value."""
        self._entries.clear()

    def fresh(self, key: object, ttl: timedelta | None = None) -> Entry | None:
        """Return what is known of ``key`` unless it must be fetched anew."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        soft = entry.soft if ttl is None else self._ends(entry.value, entry.fetched, ttl)[0]
        return entry if self._clock() < max(soft, min(entry.quiet_until, entry.hard)) else None

    def put(self, key: object, value: SecretValue | None) -> None:
        """Keep ``value``; ``None`` says that there is none."""
        self._entries[key] = self._entry(value, self._clock())

    def get(
        self, key: object, fetch: Callable[[], SecretValue | None], ttl: timedelta | None = None
    ) -> SecretValue | None:
        """Return the value of ``key``, by ``fetch`` when it is not known or too old.

        ``ttl`` stands in for the cache's own; with 0 the value is always fetched.
        """
        known = self.fresh(key, ttl)
        if known is not None:
            return known.value
        with self._lock:
            flight = self._flights.get(key)
            if flight is None and (known := self.fresh(key, ttl)) is not None:
                return known.value  # whoever fetched it landed a moment ago
            leads = flight is None
            flight = flight or self._flights.setdefault(key, _Flight())
        old = self._usable(key, ttl)
        if leads:
            return self._fly(key, flight, fetch, old)
        return old.value if old is not None else _wait(flight)

    def _usable(self, key: object, ttl: timedelta | None) -> Entry | None:
        """The entry past its soft end that may still serve."""
        entry = self._entries.get(key)
        if entry is None or entry.value is None:
            return None
        return entry if self._clock() < self._ends(entry.value, entry.fetched, ttl)[1] else None

    def _entry(self, value: SecretValue | None, fetched: float) -> Entry:
        soft, hard = self._ends(value, fetched, None)
        return Entry(value, fetched, soft, hard)

    def _ends(self, value: SecretValue | None, fetched: float, ttl: timedelta | None) -> tuple[float, float]:
        """When a value is to be fetched anew, and when it may not serve any more."""
        options = self._options
        if value is None:
            until = fetched + options.not_found_ttl.total_seconds()
            return until, until
        soft = options.ttl if ttl is None else ttl
        hard = max(options.hard_ttl, soft) if soft else soft
        if value.ttl is not None:  # what the provider says of its own value is the last word
            soft, hard = min(soft, value.ttl), min(hard, value.ttl)
        return fetched + soft.total_seconds(), fetched + hard.total_seconds()

    def _fly(
        self, key: object, flight: _Flight, fetch: Callable[[], SecretValue | None], old: Entry | None
    ) -> SecretValue | None:
        try:
            entry = self._fetched(fetch, old)
            self._entries[key] = entry
        except BaseException as error:
            self._land(key)
            # An interrupt is meant for the thread that got it.
            shared = error if isinstance(error, Exception) else SecretUnavailableError("the fetch was interrupted")
            flight.set_exception(shared)
            raise
        self._land(key)
        flight.set_result(entry.value)
        return entry.value

    def _fetched(self, fetch: Callable[[], SecretValue | None], old: Entry | None) -> Entry:
        """Fetch; where the provider does not answer, let the old value serve on."""
        began = self._clock()
        try:
            return self._entry(fetch(), began)
        except SecretError as error:
            if old is None or not error.transient:
                raise
            logger.warning("%s; the value known so far serves on", error)
            return replace(old, quiet_until=self._clock() + RETRY_AFTER)

    def _land(self, key: object) -> None:
        with self._lock:
            self._flights.pop(key, None)


def _wait(flight: _Flight) -> SecretValue | None:
    if flight.thread == threading.get_ident():
        raise SecretOptionsError(
            "a secret is needed to fetch itself",
            why="the options of its provider refer to it",
            fix="Name another provider in that reference: {{secret:env:…}}.",
        )
    return flight.result()
