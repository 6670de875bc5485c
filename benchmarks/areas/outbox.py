"""The outbox: how fast it is written and emptied, and how soon after a commit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from statistics import median, quantiles
from threading import Thread
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Case, Side, Turn
from benchmarks.usage import processor_time
from tests.services.waiting import wait_until

from .messaging.queues import TEXT, declare, declared, waiting
from .messaging.workers import Worker

if TYPE_CHECKING:
    from koan_django.messaging.envelope import Envelope

SERVERS = ("postgres", "rabbitmq")
#: Messages of a turn: of ours, and of a relay that waits for each.
MANY, SLOW = 12_000, 1000
#: django-celery-outbox publishes from so many threads; the better one is taken.
CONCURRENCIES = ("1", "8")
#: How often it is looked how many have arrived: without a pause that would keep one of two processors busy.
LOOK_SECONDS = 0.005
#: Rows of a batch, on both sides.
BATCH = 500
#: Transactions of a turn, half of them without a message.
SENDS = 600
#: Commits of a turn, and the seconds between two: the database is idle.
COMMITS, PAUSE = 200, 0.03

_RELAY = (
    "Messages of 1 KB wait in the outbox on PostgreSQL with fsync, then a relay starts in a process of its own and"
    " publishes them to a quorum queue, confirmed by the broker each; what arrives in the queue is timed behind the"
    " first eighth. Ours deletes what was confirmed, mandatory, TRAIL off. "
)
_PUBLISHER = (
    "The other is our publisher alone: the same messages, made before, given to it at once, and timed from the first"
    " to the last confirm; no database is touched. By CPU: processor time of each message."
)
_DJANGO_CELERY_OUTBOX = (
    f"django-celery-outbox with confirm_publish, batches of {BATCH} as ours, metrics off, its log quiet, and of"
    f" {' and '.join(CONCURRENCIES)} publishing threads the one that was faster in a turn before."
)
_SEND = (
    "What it adds to a transaction that creates one row, in the median, commit and all; a transaction without takes"
    " turns with each. synchronous_commit is off on both sides, or the disk would be all that is seen. Ours is one"
    " send() of a message of 1 KB, which encodes it and writes it to the outbox, TRAIL off; the other makes an instance"
    " of the outbox's own model, from what was encoded before, and saves it."
)
_LATENCY = (
    f"A transaction writes one message to the outbox every {PAUSE * 1e3:g} ms, and a consumer of the queue tells when"
    " it has it, so the way through the broker is in it. 99 % come within the time of a turn, counted from the return"
    " of the commit. The relay is in a process of its own, and the sender publishes nothing itself. The peer is the"
    " goal."
)


def cases() -> list[Case]:
    """Return the cases."""
    return [
        Case(
            name="outbox-relay/own-publisher",
            peer_name="our publisher alone",
            unit="msg/s",
            goal=0.7,
            sides=_relay_and_publisher,
            note=_RELAY + _PUBLISHER,
            rounds=5,
            warm=False,
        ),
        Case(
            name="outbox-relay/django-celery-outbox",
            peer_name=f"django-celery-outbox {version('django-celery-outbox')}",
            unit="msg/s",
            goal=5,
            sides=_both_relays,
            note=_RELAY + _DJANGO_CELERY_OUTBOX,
            rounds=3,
            warm=False,
        ),
        Case(
            name="outbox-send/model-save",
            peer_name="Model.save() of the same row",
            unit="us",
            goal=1.25,
            sides=_sending,
            note=_SEND,
            with_cpu=False,  # the transactions without a message are in it
        ),
        Case(
            name="outbox-latency/p99-20ms",
            peer_name="20 ms",
            unit="ms",
            goal=1,
            sides=_committing,
            note=_LATENCY,
            rounds=5,
            with_cpu=False,
        ),
    ]


# relays that empty an outbox


@contextmanager
def _relay_and_publisher() -> Iterator[tuple[Side, Side]]:
    with _channel() as channel:
        relay = _ours(channel)
        yield partial(_relayed, channel, relay, MANY), partial(_published, channel, relay.queue)


@contextmanager
def _both_relays() -> Iterator[tuple[Side, Side]]:
    with _channel() as channel:
        ours, peer = _ours(channel), _faster(channel)
        yield partial(_relayed, channel, ours, MANY), partial(_relayed, channel, peer, SLOW)


@contextmanager
def _channel() -> Iterator[Any]:
    from django.conf import settings
    from kombu import Connection

    with Connection(settings.AMQP_URL) as connection:
        yield connection.default_channel


def _ours(channel: Any) -> Worker:
    return Worker(
        words=["django", "koan_outbox_relay", "--skip-checks", "--bus", "main"],
        queue=declared(channel),
        fill=lambda count: _write(_envelopes(count)),
        variables={"BENCH_TRAIL": "off"},
    )


def _faster(channel: Any) -> Worker:
    from benchmarks.project.announcing import QUEUE

    declare(channel, QUEUE, "quorum")
    options = ["--batch-size", str(BATCH), "--idle-time", "0.05", "--skip-checks", "--publish-concurrency"]
    relays = [
        Worker(words=["django", "celery_outbox_relay", *options, each], queue=QUEUE, fill=_fill_peer)
        for each in CONCURRENCIES
    ]
    return max(relays, key=lambda relay: _relayed(channel, relay, SLOW).value)


def _relayed(channel: Any, relay: Worker, count: int) -> Turn:
    """Let a relay empty the outbox; measure how many messages a second arrive, and the processor time of each."""
    channel.queue_purge(relay.queue)
    relay.fill(count)
    with relay.running({}) as process:
        first, began = _arrived(channel, relay.queue, count // 8)
        before = processor_time(process.pid)
        last, ended = _arrived(channel, relay.queue, count)
        cpu = processor_time(process.pid) - before
        wait_until(_is_empty, 30, "the outbox to be empty")
    assert last == count, f"{last} messages arrived, {count} were in the outbox"
    return Turn((last - first) / (ended - began), cpu / (last - first))


def _arrived(channel: Any, queue: str, count: int) -> tuple[int, float]:
    """Wait until so many messages are in the queue; return how many are, and when that was."""
    found = wait_until(
        lambda: (there := waiting(channel, queue)) >= count and there, 180, f"{count} messages", every=LOOK_SECONDS
    )
    return int(found), time.perf_counter()


def _published(channel: Any, queue: str) -> Turn:
    from koan_django.messaging.buses import registry

    channel.queue_purge(queue)
    envelopes = _envelopes(MANY)
    began, before = time.perf_counter(), time.process_time()
    outcomes = registry.get("main").publish(envelopes)
    took, cpu = time.perf_counter() - began, time.process_time() - before
    assert {outcome.state for outcome in outcomes} == {"confirmed"}
    return Turn(MANY / took, cpu / MANY)


# what fills the outboxes


def _envelopes(count: int) -> list[Envelope]:
    from benchmarks.project.messages import Empty
    from koan_django.messaging.outgoing.sending import wrap

    return [wrap(Empty(number=number, text=TEXT), "main") for number in range(count)]


def _write(envelopes: list[Envelope]) -> None:
    """Write them in one transaction, and wake a relay: as send() does, but nothing in this process publishes them."""
    from django.db import transaction

    from koan_django.messaging.models import OutboxMessage
    from koan_django.messaging.outgoing.notifying import notify
    from koan_django.messaging.outgoing.outbox import lane_of

    rows = [OutboxMessage.holding("main", each, lane=lane_of("main", each)) for each in envelopes]
    with transaction.atomic():
        OutboxMessage.objects.bulk_create(rows, batch_size=1000)
        notify("main", "default")


def _fill_peer(count: int) -> None:
    """Announce one task as its authors have it, and as many copies of its row as are missing."""
    from django.db import transaction
    from django_celery_outbox.models import CeleryOutbox

    from benchmarks.project.announcing import QUEUE, app

    with transaction.atomic():
        app.send_task("bench.empty", (0, TEXT), queue=QUEUE)
        row = CeleryOutbox.objects.get()
        rows = []
        for number in range(1, count):
            row.pk, row.task_id, row.args = None, str(uuid.uuid4()), [number, TEXT]
            rows.append(CeleryOutbox(**{field.name: getattr(row, field.name) for field in row._meta.fields}))
        CeleryOutbox.objects.bulk_create(rows, batch_size=1000)


def _is_empty() -> bool:
    from django_celery_outbox.models import CeleryOutbox

    from koan_django.messaging.models import OutboxMessage

    return not (OutboxMessage.objects.exists() or CeleryOutbox.objects.exists())


# what a message adds to a transaction


@contextmanager
def _sending() -> Iterator[tuple[Side, Side]]:
    from django.conf import settings
    from django.db import connection

    from benchmarks.project.messages import Empty
    from koan_django.messaging.models import OutboxMessage
    from koan_django.testing import override_koan

    [envelope] = _envelopes(1)
    with override_koan(MESSAGING=settings.KOAN["MESSAGING"] | {"TRAIL": "off"}), _channel() as channel:
        declared(channel)
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
        yield (
            partial(_added, lambda: Empty(number=0, text=TEXT).send()),
            partial(_added, lambda: OutboxMessage.holding("main", envelope).save()),
        )


def _added(work: Callable[[], object]) -> float:
    """Return the microseconds that ``work`` adds to a transaction."""
    from benchmarks.project.models import Row
    from koan_django.messaging.models import OutboxMessage

    took: tuple[list[float], list[float]] = ([], [])
    for number in range(SENDS):
        took[number % 2].append(_transaction(number, work if number % 2 else None))
    Row.objects.all().delete()
    OutboxMessage.objects.all().delete()
    bare, whole = map(median, took)
    return (whole - bare) * 1e6


def _transaction(number: int, work: Callable[[], object] | None) -> float:
    from django.db import transaction

    from benchmarks.project.models import Row

    began = time.perf_counter()
    with transaction.atomic():
        Row.objects.create(number=number)
        if work is not None:
            work()
    return time.perf_counter() - began


# from the commit to the broker


@contextmanager
def _committing() -> Iterator[tuple[Side, Side]]:
    with _channel() as channel:
        relay = _ours(channel)
        with _consumer(relay.queue) as arrivals, relay.running({}):
            [first] = _envelopes(1)
            _write([first])
            wait_until(lambda: first.id in arrivals, 60, "the relay to publish")
            yield partial(_latency, arrivals), lambda: 20.0


def _latency(arrivals: dict[str, float]) -> float:
    """Return the milliseconds within which 99 % of the messages arrived after their commit."""
    committed = {}
    for envelope in _envelopes(COMMITS):
        time.sleep(PAUSE)
        _write([envelope])
        committed[envelope.id] = time.perf_counter()
    wait_until(lambda: committed.keys() <= arrivals.keys(), 60, "every message to arrive")
    return quantiles([(arrivals[each] - when) * 1e3 for each, when in committed.items()], n=100)[98]


@contextmanager
def _consumer(queue: str) -> Iterator[dict[str, float]]:
    """Consume ``queue``; yield when each message came, by its id."""
    arrivals: dict[str, float] = {}
    running = True

    def consume() -> None:
        with _channel() as channel:
            channel.basic_consume(queue, no_ack=True, callback=came)
            while running:
                try:
                    channel.connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

    def came(message: Any) -> None:
        arrivals[message.properties["message_id"]] = time.perf_counter()

    thread = Thread(target=consume, name="consumer", daemon=True)
    thread.start()
    try:
        yield arrivals
    finally:
        running = False
        thread.join(10)
