"""Workers of both sides, and what they have to do: filled queues."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Turn
from benchmarks.usage import processor_time
from tests.services.process import Process
from tests.services.waiting import wait_until

from .queues import TEXT, waiting

ROOT = Path(__file__).parents[3]
#: Handled, and nothing kept about it.
BARE = {"BENCH_TRAIL": "off", "BENCH_INBOX": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process, ``words`` behind ``python -m``, that handles what is in ``queue``; ``fill`` puts messages there.

    A relay takes them out of an outbox instead, and puts them there.
    """

    words: list[str]
    queue: str
    fill: Callable[[int], object]
    variables: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self, variables: dict[str, str]) -> Iterator[Process]:
        """Start it for the block."""
        log = Path(os.environ["BENCH_DIR"]) / f"{uuid.uuid4().hex}.log"
        environment = os.environ | self.variables | variables
        worker = Process("worker", [sys.executable, "-m", *self.words], log, env=environment, cwd=ROOT)
        try:
            yield worker
        except (AssertionError, TimeoutError) as error:
            error.add_note(worker.tail())
            raise
        finally:
            worker.stop()


def celery(app: str, *words: str, pool: str = "prefork", children: int = 2) -> list[str]:
    """Return the words that start a Celery worker."""
    # Not the usual node name, or two workers of one machine would have the same.
    name = f"{uuid.uuid4().hex}@bench"
    options = ["-P", pool, "-c", str(children), "-l", "warning", "-n", name]
    return ["celery", "-A", f"benchmarks.project.{app}", "worker", *words, *options]


def drained(channel: Any, worker: Worker, count: int) -> Turn:
    """Let a worker empty its queue; measure how many messages a second it handles, and the processor time of each."""
    from benchmarks.project.marks import listening

    channel.queue_purge(worker.queue)  # a worker that stops gives back what it had fetched
    worker.fill(count)
    left = partial(waiting, channel, worker.queue)
    first, last = count // 8, count - 1
    wait_until(lambda: left() == count, 60, "the queue to be full")
    with listening(first, last) as marks, worker.running(marks.environment) as process:
        began = marks.time_of(first, timeout=60)
        before = processor_time(process.pid)
        ended = marks.time_of(last, timeout=180)
        cpu = processor_time(process.pid) - before
        wait_until(lambda: left() == 0, 10, "the queue to be empty")
    return Turn((last - first) / (ended - began), cpu / (last - first))


# what fills the queues


def fill_ours(count: int) -> None:
    """Publish our messages."""
    from benchmarks.project.messages import Empty
    from koan_django.messaging.buses import registry
    from koan_django.messaging.outgoing.sending import wrap

    envelopes = [wrap(Empty(number=number, text=TEXT), "main") for number in range(count)]
    outcomes = registry.get("main").publish(envelopes)
    assert {outcome.state for outcome in outcomes} == {"confirmed"}


def fill_celery(task: str, queue: str, count: int) -> None:
    """Publish Celery's tasks."""
    from benchmarks.project import tasks
    from benchmarks.project.peer import app

    with app.producer_pool.acquire() as producer:
        for number in range(count):
            getattr(tasks, task).apply_async((number, TEXT), queue=queue, producer=producer)


def fill_plain(queue: str, count: int) -> None:
    """Publish JSON, as FastStream does."""
    from django.conf import settings
    from kombu import Connection

    with Connection(settings.AMQP_URL, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer(connection.default_channel)
        for number in range(count):
            body = {"number": number, "text": TEXT}
            producer.publish(body, routing_key=queue, serializer="json", delivery_mode=2)


def fill_dramatiq(count: int) -> None:
    """Publish dramatiq's messages."""
    from benchmarks.project.actors import empty

    for number in range(count):
        empty.send(number, TEXT)
