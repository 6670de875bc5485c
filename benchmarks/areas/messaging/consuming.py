"""A worker that empties a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from benchmarks.harness import Case, Side

from .queues import declare, declared
from .workers import BARE, Worker, celery, drained, fill_celery, fill_dramatiq, fill_ours, fill_plain

#: Messages of a drain: so many that it takes seconds.
MANY, FEWER, SOME = 8000, 4000, 2000
#: Celery's prefetch multiplier: the better one is taken.
MULTIPLIERS = ("1", "128")
#: What dramatiq has prefetched for its threads; its default of two for each was slower.
_DRAMATIQ_PREFETCH = "128"
WITH_INBOX = {"BENCH_TRAIL": "off", "BENCH_INBOX": "1"}

#: Declares what a worker needs over a channel, and says how it is started.
Prepare = Callable[[Any], Worker]

_CONSUME = (
    "A queue is filled with persistent messages of 1 KB, then a worker starts; timed behind the first eighth of the"
    " messages, when it is warm. "
)
_EMPTY = (
    _CONSUME
    + "Nothing is done and nothing is kept, no database is touched. Ours is a Celery worker with the settings of"
    " a Django project, {pool}; its messages stand in a quorum queue, the only kind that a worker declares, are decoded"
    " into their class, and are acknowledged after they ran. "
)
_CELERY = (
    "Celery's tasks stand in a {kind} queue and are acknowledged before they run, its default; prefork, 2 children, of"
    " the prefetch multipliers 1 and 128 the one that was faster in a turn before."
)
_FASTSTREAM = (
    "FastStream's messages stand in a classic queue, the kind that it declares, are decoded into a msgspec class by its"
    " msgspec serializer, and are acknowledged after they ran; 256 are prefetched."
)
_DRAMATIQ = (
    "dramatiq's messages stand in a classic queue, the kind that it declares, and are acknowledged after they ran; one"
    f" process with 8 threads, its default middleware, {_DRAMATIQ_PREFETCH} prefetched."
)
_ONCE = (
    "Prefork, 2 children. Both handle a redelivered message once: Celery's task acknowledges late and does"
    " get_or_create of its id in a transaction; ours has the inbox, and keeps a row about each message besides."
    " PostgreSQL with fsync, quorum queues on both sides."
)
_ROW = (
    "Both are ours: prefork, 2 children, quorum queues, acknowledged after the commit, the inbox on and TRAIL off,"
    " PostgreSQL with fsync. One handler gets up to 50 messages and writes a row for each in one transaction by one"
    " bulk_create; the other gets a message at a time and creates its row in a transaction of its own."
)


def cases() -> list[Case]:
    """Return the cases."""
    celery_name, faststream, dramatiq = (
        f"{name} {version(name.lower())}" for name in ("Celery", "FastStream", "dramatiq")
    )
    prefork = _EMPTY.format(pool="prefork, 2 children")
    one_process = _EMPTY.format(pool="the threads pool with 2 threads, so one process as on the other side")
    return [
        *(
            _case(
                f"consume-empty/celery/prefork/{kind}",
                celery_name,
                4,
                partial(draining, prepare_ours(), partial(prepare_celery, kind), MANY, FEWER),
                prefork + _CELERY.format(kind=kind),
            )
            for kind in ("classic", "quorum")
        ),
        _case(
            "consume-empty/faststream",
            faststream,
            2,
            partial(draining, prepare_ours(pool="threads"), prepare_faststream, MANY, MANY),
            one_process + _FASTSTREAM,
        ),
        _case(
            "consume-empty/dramatiq/threads",
            dramatiq,
            2,
            partial(draining, prepare_ours(pool="threads"), _dramatiq, MANY, FEWER),
            one_process + _DRAMATIQ,
        ),
        _case(
            "consume-row/batch-50/single",
            "ours, one message at a time",
            3,
            partial(draining, prepare_ours(WITH_INBOX, "rows"), prepare_ours(WITH_INBOX, "row"), FEWER, SOME),
            _CONSUME + _ROW,
        ),
        _case(
            "consume-once/celery/prefork/quorum",
            celery_name,
            0.7,
            partial(draining, prepare_ours({"BENCH_TRAIL": "all", "BENCH_INBOX": "1"}, "once"), _once, SOME, SOME),
            _CONSUME + _ONCE,
        ),
    ]


def _case(name: str, peer: str, goal: float, sides: Callable[[], Any], note: str) -> Case:
    return Case(name=name, peer_name=peer, unit="msg/s", goal=goal, sides=sides, note=note, rounds=3, warm=False)


@contextmanager
def draining(ours: Prepare, peer: Prepare, many: int, peers: int) -> Iterator[tuple[Side, Side]]:
    """Both empty their queues, ``many`` messages and ``peers``."""
    from django.conf import settings
    from kombu import Connection

    with Connection(settings.AMQP_URL) as connection:
        channel = connection.default_channel
        mine, other = ours(channel), peer(channel)
        yield partial(drained, channel, mine, many), partial(drained, channel, other, peers)


# ours


def prepare_ours(variables: dict[str, str] = BARE, handler: str = "empty", pool: str = "prefork") -> Prepare:
    def prepare(channel: Any) -> Worker:
        return Worker(
            words=celery("ours", pool=pool),
            queue=declared(channel),
            fill=fill_ours,
            variables=variables | {"BENCH_HANDLER": handler},
        )

    return prepare


# the peers


def prepare_celery(kind: str, channel: Any) -> Worker:
    """Return a worker with the better prefetch multiplier."""
    queue = declare(channel, f"tasks.{kind}", kind)
    workers = [
        Worker(
            words=celery("peer", "-Q", queue),
            queue=queue,
            fill=partial(fill_celery, "empty", queue),
            variables={"BENCH_PREFETCH": multiplier},
        )
        for multiplier in MULTIPLIERS
    ]
    return max(workers, key=lambda worker: drained(channel, worker, FEWER // 2).value)


def _once(channel: Any) -> Worker:
    queue = declare(channel, "tasks.quorum", "quorum")
    return Worker(words=celery("peer", "-Q", queue), queue=queue, fill=partial(fill_celery, "once", queue))


def prepare_faststream(channel: Any) -> Worker:
    queue = declare(channel, "stream", "classic")
    return Worker(words=["benchmarks.project.streaming"], queue=queue, fill=partial(fill_plain, queue))


def _dramatiq(channel: Any) -> Worker:
    from benchmarks.project.actors import empty

    empty.broker.declare_queue(empty.queue_name, ensure=True)
    return Worker(
        words=["dramatiq", "benchmarks.project.actors", "-p", "1", "-t", "8", "--skip-logging"],
        queue=empty.queue_name,
        fill=fill_dramatiq,
        variables={"dramatiq_queue_prefetch": _DRAMATIQ_PREFETCH},
    )
