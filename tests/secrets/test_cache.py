"""Time to live, one fetch for many, and what happens when the provider does not answer."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from koan_django.secrets import SecretAccessError, SecretOptionsError, SecretUnavailableError, SecretValue
from koan_django.secrets.cache import RETRY_AFTER, SecretCache
from koan_django.secrets.conf import CacheOptions

OPTIONS = CacheOptions(ttl=timedelta(minutes=5), hard_ttl=timedelta(hours=1), not_found_ttl=timedelta(seconds=5))


class Clock:
    """Monotonic seconds that move when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Counts its fetches; gives ``value``, ``None``, or raises it."""

    def __init__(self, value: SecretValue | Exception | None) -> None:
        self.value = value
        self.fetched = 0

    def __call__(self) -> SecretValue | None:
        self.fetched += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> SecretCache:
    return SecretCache(OPTIONS, clock)


def test_a_value_is_fetched_again_after_its_soft_end(cache: SecretCache, clock: Clock) -> None:
    store = Store(SecretValue("1"))
    for advance, fetched in ((0, 1), (299, 1), (2, 2), (1, 2)):
        clock.now += advance
        assert cache.get("a", store) == SecretValue("1")
        assert store.fetched == fetched


def test_that_there_is_none_is_not_remembered_long(cache: SecretCache, clock: Clock) -> None:
    store = Store(None)
    assert cache.get("a", store) is cache.get("a", store) is None
    assert store.fetched == 1
    clock.now += 5
    store.value = SecretValue("now")
    assert cache.get("a", store) == SecretValue("now")


def test_what_the_provider_says_of_its_value_ends_it_sooner(cache: SecretCache, clock: Clock) -> None:
    store = Store(SecretValue("1", ttl=timedelta(seconds=10)))
    cache.get("a", store, timedelta(hours=2))
    clock.now += 10
    store.value = SecretUnavailableError("down")
    with pytest.raises(SecretUnavailableError):
        cache.get("a", store)


def test_the_old_value_serves_while_the_provider_is_down_until_its_hard_end(cache: SecretCache, clock: Clock) -> None:
    store = Store(SecretValue("old"))
    cache.get("a", store)
    store.value = SecretUnavailableError("down")
    clock.now += 301
    assert cache.get("a", store) == cache.get("a", store) == SecretValue("old")
    assert store.fetched == 2, "a provider that is down is left alone for a while"
    clock.now += RETRY_AFTER
    cache.get("a", store)
    assert store.fetched == 3
    clock.now = Clock.now + 3600
    with pytest.raises(SecretUnavailableError):
        cache.get("a", store)


def test_a_refusal_does_not_let_the_old_value_serve(cache: SecretCache, clock: Clock) -> None:
    store = Store(SecretValue("old"))
    cache.get("a", store)
    store.value = SecretAccessError("revoked")
    clock.now += 301
    with pytest.raises(SecretAccessError):
        cache.get("a", store)


def test_an_error_is_not_kept(cache: SecretCache) -> None:
    store = Store(SecretUnavailableError("down"))
    with pytest.raises(SecretUnavailableError):
        cache.get("a", store)
    store.value = SecretValue("up")
    assert cache.get("a", store) == SecretValue("up")


def test_a_time_of_zero_always_fetches(cache: SecretCache) -> None:
    store = Store(SecretValue("1"))
    for _ in range(3):
        cache.get("a", store, timedelta(0))
    assert store.fetched == 3


def together(count: int, work: object) -> list[object]:
    """Run ``work`` on so many threads at once; return what they return or raise."""
    barrier, results = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())  # type: ignore[operator]
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_many_misses_at_once_are_one_fetch() -> None:
    for _ in range(20):
        cache, store = SecretCache(OPTIONS), Store(SecretValue("1"))

        def slow(store: Store = store) -> SecretValue | None:
            time.sleep(0.005)  # wide enough for everybody to find it under way
            return store()

        results = together(16, lambda cache=cache, slow=slow: cache.get("a", slow))
        assert results == [SecretValue("1")] * 16
        assert store.fetched == 1


def test_many_misses_at_once_without_waiting_are_one_fetch() -> None:
    for _ in range(50):
        cache, store = SecretCache(OPTIONS), Store(SecretValue("1"))
        together(16, lambda cache=cache, store=store: cache.get("a", store))
        assert store.fetched == 1


def test_a_miss_that_another_thread_fills_meanwhile_is_no_second_fetch(clock: Clock) -> None:
    cache, store = SecretCache(OPTIONS, lambda: landing()), Store(SecretValue("late"))

    def landing() -> float:
        """The other thread lands just as this one has looked at the old value."""
        now = clock.now
        if now > Clock.now:
            clock.now = Clock.now
            cache.put("a", SecretValue("new"))
        return now

    cache.put("a", SecretValue("old"))
    clock.now += 301
    assert cache.get("a", store) == SecretValue("new")
    assert store.fetched == 0


def test_an_error_reaches_everybody_who_waited() -> None:
    cache, entered = SecretCache(OPTIONS), threading.Event()

    def fail() -> SecretValue | None:
        entered.set()
        time.sleep(0.02)
        raise SecretUnavailableError("down")

    results = together(8, lambda: cache.get("a", fail))
    assert [type(result) for result in results] == [SecretUnavailableError] * 8


def test_an_interrupt_is_for_one_thread_alone() -> None:
    cache, entered, leave = SecretCache(OPTIONS), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def interrupted() -> SecretValue | None:
        entered.set()
        leave.wait(30)
        raise KeyboardInterrupt

    def lead() -> None:
        try:
            cache.get("a", interrupted)
        except BaseException as error:
            raised.append(error)

    def follow() -> None:
        try:
            cache.get("a", interrupted)
        except BaseException as error:
            raised.append(error)

    leader = threading.Thread(target=lead)
    leader.start()
    assert entered.wait(30)
    follower = threading.Thread(target=follow)
    follower.start()
    leave.set()
    leader.join()
    follower.join()
    # The follower may have come after the landing, and then led itself.
    assert KeyboardInterrupt in map(type, raised)
    assert {type(error) for error in raised} <= {KeyboardInterrupt, SecretUnavailableError}


def test_while_one_renews_the_others_are_given_the_old_value(clock: Clock) -> None:
    cache = SecretCache(OPTIONS, clock)
    cache.put("a", SecretValue("old"))
    clock.now += 301
    entered, leave = threading.Event(), threading.Event()

    def slow() -> SecretValue | None:
        entered.set()
        leave.wait(30)
        return SecretValue("new")

    renewing = threading.Thread(target=cache.get, args=("a", slow))
    renewing.start()
    assert entered.wait(30)
    assert cache.get("a", slow) == SecretValue("old")
    leave.set()
    renewing.join()
    assert cache.get("a", slow) == SecretValue("new")


def test_a_secret_that_is_needed_to_fetch_itself_is_an_error_and_no_standstill(cache: SecretCache) -> None:
    def fetch() -> SecretValue | None:
        return cache.get("a", fetch)

    with pytest.raises(SecretOptionsError, match="to fetch itself"):
        cache.get("a", fetch)


def test_the_length_counts_values(cache: SecretCache) -> None:
    cache.put("a", SecretValue("1"))
    cache.put("b", None)
    assert len(cache) == 1
    cache.clear()
    assert len(cache) == 0
