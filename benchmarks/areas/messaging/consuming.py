"""A worker that empties a queue."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Side, Turn
from benchmarks.usage import processor_time
from tests.services.process import Process
from tests.services.waiting import wait_until

from .queues import TEXT, declare, declared, waiting

ROOT = Path(__file__).parents[3]
#: Messages of a drain: so many that it takes seconds.
MANY, SOME = 8000, 2000
_CONSUME = (
    "A queue is filled with messages of 1 KB, then an ordinary Celery worker (prefork, 2 children) with the settings of"
    " the Django project starts; timed behind the first eighth of the messages, when its pool is warm. "
)


def cases() -> list[Case]:
    """Return the cases."""
    celery = f"Celery {version('celery')}"
    return [
        Case(
            name="consume-empty/celery/prefork/classic",
            peer_name=celery,
            unit="msg/s",
            goal=2,
            sides=partial(_draining, {"BENCH_TRAIL": "off", "BENCH_INBOX": "0"}, "empty", "classic", MANY),
            rounds=3,
            note=_CONSUME + "Nothing is done and nothing is kept, no database is touched. Celery's tasks stand in a"
            " classic queue and are acknowledged before they run, its default; our messages stand in a quorum queue,"
            " the only kind that we declare, are acknowledged after they ran, and are decoded into their class.",
        ),
        Case(
            name="consume-once/celery/prefork/quorum",
            peer_name=celery,
            unit="msg/s",
            goal=0.7,
            sides=partial(_draining, {"BENCH_TRAIL": "all", "BENCH_INBOX": "1"}, "once", "quorum", SOME),
            rounds=3,
            note=_CONSUME + "Both handle a redelivered message once: Celery's task acknowledges late and does"
            " get_or_create of its id in a transaction; ours has the inbox, and keeps a row about each message besides."
            " PostgreSQL with fsync, quorum queues on both sides.",
        ),
    ]


@contextmanager
def _draining(variables: dict[str, str], task: str, queue_type: str, count: int) -> Iterator[tuple[Side, Side]]:
    from django.conf import settings
    from kombu import Connection

    with Connection(settings.AMQP_URL) as connection:
        channel = connection.default_channel
        queue = declared(channel)
        tasks = declare(channel, f"tasks.{queue_type}", queue_type)

        def ours() -> Turn:
            channel.queue_purge(queue)
            _fill_ours(count)
            return _drained(channel, queue, count, ["-A", "benchmarks.project.ours"], variables)

        def peer() -> Turn:
            channel.queue_purge(tasks)  # a worker that stops gives back what it had fetched
            _fill_peer(task, tasks, count)
            return _drained(channel, tasks, count, ["-A", "benchmarks.project.peer", "-Q", tasks], variables)

        yield ours, peer


def _fill_ours(count: int) -> None:
    from benchmarks.project.messages import Empty
    from koan_django.messaging.buses import registry
    from koan_django.messaging.sending import wrap

    envelopes = [wrap(Empty(number=number, text=TEXT), "main") for number in range(count)]
    outcomes = registry.get("main").publish(envelopes)
    assert {outcome.state for outcome in outcomes} == {"confirmed"}


def _fill_peer(task: str, queue: str, count: int) -> None:
    from benchmarks.project import tasks
    from benchmarks.project.peer import app

    with app.producer_pool.acquire() as producer:
        for number in range(count):
            getattr(tasks, task).apply_async((number, TEXT), queue=queue, producer=producer)


def _drained(channel: Any, queue: str, count: int, app: list[str], variables: dict[str, str]) -> Turn:
    """Let a worker empty ``queue``; measure how many messages a second it handles."""
    from benchmarks.project.marks import listening

    left = partial(waiting, channel, queue)
    first, last = count // 8, count - 1
    wait_until(lambda: left() == count, 60, "the queue to be full")
    with listening(first, last) as marks, _working(app, variables | marks.environment) as worker:
        began = marks.time_of(first, timeout=60)
        before = processor_time(worker.pid)
        ended = marks.time_of(last, timeout=180)
        cpu = processor_time(worker.pid) - before
        wait_until(lambda: left() == 0, 10, "the queue to be empty")
    return Turn((last - first) / (ended - began), cpu)


@contextmanager
def _working(app: list[str], variables: dict[str, str]) -> Iterator[Process]:
    name = uuid.uuid4().hex
    # Not the usual node name, or two workers of one machine would have the same.
    words = [*app[:2], "worker", *app[2:], "-c", "2", "-l", "warning", "-n", f"{name}@bench"]
    log = Path(os.environ["BENCH_DIR"]) / f"{name}.log"
    worker = Process("worker", [sys.executable, "-m", "celery", *words], log, env=os.environ | variables, cwd=ROOT)
    try:
        yield worker
    except (AssertionError, TimeoutError) as error:
        error.add_note(worker.tail())
        raise
    finally:
        worker.stop()
