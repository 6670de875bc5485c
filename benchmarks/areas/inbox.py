"""The inbox: what it costs a handler, and how many claims a second its Redis store takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Case, Side

from .messaging.consuming import FEWER, SOME, WITH_INBOX, draining, prepare_ours
from .messaging.workers import BARE

if TYPE_CHECKING:
    from koan_django.inbox.scopes import Scope

SERVERS = ("postgres", "rabbitmq", "redis")
#: Claims of a turn, and how many arrive together.
CLAIMS, BATCH = 20_000, 100
#: Claims of a turn, one by one.
SINGLE = 4000
LEASE = timedelta(seconds=60)

_HANDLER = (
    "A queue is filled with persistent messages of 1 KB, then a worker starts; timed behind the first eighth of the"
    " messages, when it is warm. Both are ours: a Celery worker, prefork, 2 children, quorum queues, acknowledged after"
    " the commit, TRAIL off, PostgreSQL with fsync. "
)
_WITHOUT = (
    "The handler gets a message at a time and creates a row in a transaction. Ours claims the message in the inbox as"
    " the first statement of that transaction; the other has no inbox."
)
_BATCH = (
    "The inbox is on. One handler gets up to 50 messages and writes a row for each in one transaction by one"
    " bulk_create, their claims in one statement; the other gets a message at a time and creates its row."
)
_REDIS = (
    f"Every second key was claimed before. Ours claims scopes of messages, {BATCH} at a time, by one script, which"
    " gives a lease with a fencing token on what is new; the other does cache.add of each key as text, made before, by"
    " django-redis on the same server, one after the other. "
)
_MARKED = (
    "Ours marks what it claimed as done as well, by a second script for the batch. Told beside it, without a goal."
)


def cases() -> list[Case]:
    """Return the cases."""
    row = prepare_ours(WITH_INBOX, "row")
    return [
        _handler(
            "inbox-handler/without",
            "ours, without the inbox",
            0.8,
            partial(draining, row, prepare_ours(BARE, "row"), FEWER, FEWER),
            _WITHOUT,
        ),
        _handler(
            "inbox-handler/batch-50/single",
            "ours, one message at a time",
            3,
            partial(draining, prepare_ours(WITH_INBOX, "rows"), row, FEWER, SOME),
            _BATCH,
        ),
        _claims("inbox-redis/cache-add", 10, partial(_claiming, marked=False), _REDIS),
        _claims("inbox-redis/cache-add/marked", 0, partial(_claiming, marked=True), _REDIS + _MARKED),
    ]


def _handler(name: str, peer: str, goal: float, sides: Callable[[], Any], note: str) -> Case:
    return Case(
        name=name,
        peer_name=peer,
        unit="msg/s",
        goal=goal,
        sides=sides,
        note=_HANDLER + note,
        rounds=7,
        warm=False,
    )


def _claims(name: str, goal: float, sides: Callable[[], Any], note: str) -> Case:
    peer = f"cache.add of django-redis {version('django-redis')}"
    return Case(name=name, peer_name=peer, unit="claims/s", goal=goal, sides=sides, note=note, with_cpu=False)


@contextmanager
def _claiming(*, marked: bool) -> Iterator[tuple[Side, Side]]:
    from koan_django.testing import override_koan

    with override_koan(INBOX={"STORE": "redis"}):
        yield partial(_in_batches, marked), _one_by_one


def _in_batches(marked: bool) -> float:
    from koan_django.inbox.stores import configured

    store = configured()
    scopes = [_scope(key) for key in _keys(CLAIMS)]
    _empty_redis()
    began, fresh = time.perf_counter(), 0
    for start in range(0, CLAIMS, BATCH):
        begun = store.begin(scopes[start : start + BATCH], LEASE)
        leases = [each.lease for each in begun if each.lease is not None]
        fresh += len(leases)
        if marked:
            store.finish(leases)
    took = time.perf_counter() - began
    assert fresh == CLAIMS // 2
    return CLAIMS / took


def _one_by_one() -> float:
    from django.core.cache import cache

    keys = _keys(SINGLE)
    _empty_redis()
    began = time.perf_counter()
    fresh = sum(cache.add(key, 1, timeout=60) for key in keys)
    took = time.perf_counter() - began
    assert fresh == SINGLE // 2
    return SINGLE / took


def _keys(count: int) -> list[str]:
    """Return keys of which each comes once more, a batch later."""
    new = [uuid.uuid4().hex for _ in range(count // 2)]
    size = BATCH
    return [key for start in range(0, len(new), size) for key in new[start : start + size] * 2]


def _scope(key: str) -> Scope:
    from koan_django.inbox.scopes import Scope

    return Scope("", "main", "bench", "bench.empty", "bench.empty", key)


def _empty_redis() -> None:
    from django_redis import get_redis_connection

    get_redis_connection("default").flushdb()
