"""How long a message takes from its send to its handler, while the worker is far from busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from statistics import quantiles
from typing import Any

from benchmarks.harness import Case, Side

from .consuming import SOME, Prepare, prepare_celery, prepare_faststream, prepare_ours
from .queues import TEXT
from .workers import BARE, Worker, drained

#: How long a turn is, and how many messages it has at least.
SECONDS, LEAST = 4, 300
#: What part of the rate at which the slower side drains a queue is sent.
PART = 5

Send = Callable[[int], object]
_HOP = (
    "A message of 1 KB is sent, a handler tells its time, {percent} of the messages come within the time of a turn;"
    f" {SECONDS} s of a fifth of the rate at which the slower side drains a queue, measured before. Ours is sent by"
    " send(), whose confirm the next one waits for, to a quorum queue, TRAIL off, and acknowledged after it ran;"
    " a Celery worker, prefork, 2 children. "
)
_CELERY = (
    "Celery's task goes unconfirmed to {kind}, and is acknowledged before it runs; prefork, 2 children, of the prefetch"
    " multipliers 1 and 128 the one that drained faster."
)
_QUORUM = _CELERY.format(kind="a quorum queue as well: both wait until the broker has it on its disk")
_CLASSIC = _CELERY.format(kind="a classic queue, which hands it out before it is on the disk. Told, without a goal")
_FASTSTREAM = (
    "FastStream's message goes unconfirmed to a classic queue and is acknowledged after it ran, in one process. Told"
    " beside it, without a goal."
)


def cases() -> list[Case]:
    """Return the cases."""
    quorum, classic = (_Hops(partial(prepare_celery, kind), _celery) for kind in ("quorum", "classic"))
    faststream = _Hops(prepare_faststream, _faststream)
    return [
        Case(
            name=f"hop-latency/{peer}/p{percent}",
            peer_name=f"{name} {version(name.lower())}",
            unit="ms",
            goal=goal,
            sides=partial(hops.quantile, percent),
            note=_HOP.format(percent=f"{percent} %") + note,
            rounds=5,
            with_cpu=False,
        )
        for peer, name, hops, goal, note in (
            ("celery", "Celery", quorum, 1, _QUORUM),
            ("celery-classic", "Celery", classic, 0, _CLASSIC),
            ("faststream", "FastStream", faststream, 0, _FASTSTREAM),
        )
        for percent in (50, 99)
    ]


@dataclass
class _Hops:
    """Hops of both sides; each case after the first is another quantile of the same turns."""

    prepare: Prepare
    sender: Callable[[Worker, ExitStack], Send]
    turns: tuple[list[list[float]], list[list[float]]] = field(default_factory=lambda: ([], []))

    @contextmanager
    def quantile(self, percent: int) -> Iterator[tuple[Side, Side]]:
        """Yield both sides; a turn is ``percent`` % of the hops, in milliseconds."""
        if self.turns[0]:
            one, other = iter(self.turns[0]), iter(self.turns[1])
            yield lambda: _quantile(next(one), percent), lambda: _quantile(next(other), percent)
            return
        with self._measured() as (ours, peer):
            yield lambda: _quantile(ours(), percent), lambda: _quantile(peer(), percent)

    @contextmanager
    def _measured(self) -> Iterator[tuple[Callable[[], list[float]], Callable[[], list[float]]]]:
        from django.conf import settings
        from kombu import Connection

        from benchmarks.project.marks import listening
        from koan_django.testing import override_koan

        with ExitStack() as stack:
            stack.enter_context(override_koan(MESSAGING=settings.KOAN["MESSAGING"] | {"TRAIL": "off"}))
            channel = stack.enter_context(Connection(settings.AMQP_URL)).default_channel
            workers = prepare_ours()(channel), self.prepare(channel)
            rate = min(drained(channel, worker, SOME).value for worker in workers) / PART
            marks = stack.enter_context(listening())
            for worker in workers:
                stack.enter_context(worker.running(BARE | marks.environment | {"BENCH_HANDLER": "hop"}))
            sends = _ours, self.sender(workers[1], stack)
            one, other = (partial(_hops, send, marks, rate, kept) for send, kept in zip(sends, self.turns, strict=True))
            yield one, other


def _hops(send: Send, marks: Any, rate: float, kept: list[list[float]]) -> list[float]:
    """Send at ``rate`` a second; return the milliseconds of each hop, and keep them."""
    numbers = []
    due = time.perf_counter()
    for _ in range(max(LEAST, int(rate * SECONDS))):
        time.sleep(max(due - time.perf_counter(), 0))
        due = max(due, time.perf_counter() - 1 / rate) + 1 / rate  # what is late is not caught up by a burst
        number = int(time.time() * 1e6)
        numbers.append(number)
        send(number)
    found = [marks.time_of(number, timeout=60) * 1e3 - number / 1e3 for number in numbers]
    kept.append(found)
    return found


def _quantile(hops: list[float], percent: int) -> float:
    return quantiles(hops, n=100)[percent - 1]


# who sends


def _ours(number: int) -> object:
    from benchmarks.project.messages import Empty

    return Empty(number=number, text=TEXT).send()


def _celery(worker: Worker, stack: ExitStack) -> Send:
    from benchmarks.project.peer import app
    from benchmarks.project.tasks import hop

    producer = stack.enter_context(app.producer_pool.acquire())
    return lambda number: hop.apply_async((number, TEXT), queue=worker.queue, producer=producer)


def _faststream(worker: Worker, stack: ExitStack) -> Send:
    from django.conf import settings
    from kombu import Connection

    connection = stack.enter_context(Connection(settings.AMQP_URL))
    producer = connection.Producer(connection.default_channel)
    return lambda number: producer.publish(
        {"number": number, "text": TEXT}, routing_key=worker.queue, serializer="json", delivery_mode=2
    )
