"""A million messages through the outbox, with PostgreSQL's autovacuum as it comes: how large its table becomes.

Rows are written in bulk, never more than a backlog ahead of the real relays that publish and delete them. Afterwards
old parked messages and events are deleted by the jobs that do so, and it is measured for how long one of their
transactions holds its locks. ``KOAN_SOAK_SCALE`` makes it smaller.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.messaging.wire import wired

from .crew import Crew, Role
from .stage import servers, set_up

MESSAGES, BACKLOG, CHUNK = 1_000_000, 20_000, 2_000
RELAYS = 2
SAMPLE_SECONDS = 5.0
#: PostgreSQL's ``autovacuum_naptime`` is a minute, as it comes.
REST_SECONDS = 150
PARKED, EVENTS = 20_000, 100_000
TABLE = "koan_messaging_outboxmessage"
QUEUE = "koan.steps"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Size:
    """The table at one moment, in bytes and rows."""

    heap: int
    indexes: int
    total: int
    dead: int
    vacuums: int

    def __str__(self) -> str:
        return (
            f"{self.total / MIB:.1f} MiB ({self.heap / MIB:.1f} rows, {self.indexes / MIB:.1f} indexes),"
            f" {self.dead} dead rows, {self.vacuums} vacuums"
        )


@dataclass
class Sizes:
    """What was measured; ``left`` are messages that were never published, ``held`` the longest transactions."""

    messages: int
    seconds: float
    left: int
    samples: list[Size]
    held: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether everything was published, and what was deleted came to be used again."""
        return bool(self.samples) and not self.left and self.samples[-1].total <= self._largest.total

    @property
    def _largest(self) -> Size:
        return max(self.samples, key=lambda size: size.total)

    def __str__(self) -> str:
        held = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in self.held.items())
        return (
            f"{self.messages} messages in {self.seconds:.0f} s, {self.left} left; at most {self._largest};"
            f" most dead rows {max(size.dead for size in self.samples)}; at the end {self.samples[-1]};"
            f" longest transaction of {held}"
        )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it until all is published, however long that takes; nothing is left to chance."""
    messages = int(MESSAGES * float(os.environ.get("KOAN_SOAK_SCALE", "1")))
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker):
        set_up(bus.url(vhost.url), broker.url(vhost.url), trail="failures")
        with wired(vhost.url) as wire:
            wire.queue(QUEUE, **{"x-max-length": 1000})  # nobody takes anything out of it
            wire.channel.exchange_declare("koan.to", "topic", durable=True, auto_delete=False)
            wire.channel.queue_bind(QUEUE, "koan.to", "steps.*")
        crew = Crew(folder, Role("relay", "django koan_outbox_relay --bus rabbitmq", RELAYS))
        try:
            crew.complete()
            sizes = _passed(messages)
        finally:
            crew.end()
        sizes.held = {"forget_parked": _forgetting_parked(), "forget_old": _forgetting_events()}
    if sizes.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return True, str(sizes)
    return False, f"{sizes}; logs in {folder}"


def _passed(messages: int) -> Sizes:
    """Write rows as they are published, until all of them are, and wait for autovacuum."""
    _make_template()
    samples: list[Size] = []
    began = sampled = time.monotonic()
    written, deleted = 0, 0
    while deleted < messages:
        if written < messages and written - deleted < BACKLOG:
            written += _write(min(CHUNK, messages - written))
        else:
            time.sleep(0.2)
        deleted = _asked("SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = %s", TABLE) - 1  # the template
        if time.monotonic() - sampled >= SAMPLE_SECONDS:
            sampled = time.monotonic()
            samples.append(_size())
            print(f"{sampled - began:6.1f} s  {deleted} published; {samples[-1]}", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    rested = time.monotonic() + REST_SECONDS
    while time.monotonic() < rested and _size().dead > 100:
        time.sleep(1)
    samples.append(_size())
    return Sizes(messages, took, _asked(f"SELECT count(*) FROM {TABLE}"), samples)


def _make_template() -> None:
    """Keep one real row, of which the others are copies."""
    from django.db import connection, transaction

    from tests.soaks.project.messages import Work

    with transaction.atomic(), connection.cursor() as cursor:
        Work(number=1).send_to("steps", bus="rabbitmq")
        cursor.execute(f"CREATE TEMPORARY TABLE template AS SELECT * FROM {TABLE}")
        cursor.execute(f"DELETE FROM {TABLE}")


def _write(count: int, **changes: str) -> int:
    """Insert copies of the template, each with an id and a lane of its own; ``changes`` are columns as SQL."""
    from django.db import connection

    from koan_django.messaging.models import OutboxMessage

    now = "statement_timestamp()"
    changed = {"message_id": "gen_random_uuid()::text", "lane": "n %% 64", "available_at": now, "created_at": now}
    names = [each.column for each in OutboxMessage._meta.concrete_fields if each.column != "id"]
    values = ", ".join((changed | changes).get(name, f'template."{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({columns}) SELECT {values} FROM template, generate_series(1, %s) AS n", [count]
        )
    return count


def _size() -> Size:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_table_size(relid), pg_indexes_size(relid), pg_total_relation_size(relid), n_dead_tup,"
            " autovacuum_count FROM pg_stat_user_tables WHERE relname = %s",
            [TABLE],
        )
        return Size(*cursor.fetchone())


def _asked(question: str, *values: object) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(question, values)
        return int(cursor.fetchone()[0])


def _forgetting_parked() -> float:
    """Delete parked messages that are old; return how long the longest transaction took."""
    from koan_django.messaging import tasks
    from koan_django.testing import override_koan

    _write(PARKED, state="'parked'", available_at="statement_timestamp() - interval '3 days'")
    with override_koan(MESSAGING={"PARKED_RETENTION": timedelta(days=1)}):
        return _longest(tasks.forget_parked)


def _forgetting_events() -> float:
    from django.utils import timezone

    from koan_django.messaging import tasks
    from koan_django.messaging.models import MessageEvent

    event = {"kind": "sent", "alias": "soak.work", "bus": "rabbitmq", "correlation_id": "c"}
    for start in range(0, EVENTS, 5000):
        MessageEvent.objects.bulk_create(MessageEvent(message_id=f"m{start + n}", **event) for n in range(5000))
    MessageEvent.objects.update(at=timezone.now() - timedelta(days=60))
    return _longest(tasks.forget_old)


def _longest(job: Callable[[], None]) -> float:
    """Run ``job`` and return for how many seconds its longest transaction was open, as the server tells."""
    import psycopg
    from django.db import connection

    longest, ended = 0.0, threading.Event()
    pid = _asked("SELECT pg_backend_pid()")

    def watch() -> None:
        nonlocal longest
        question = (
            "SELECT extract(epoch FROM clock_timestamp() - xact_start) FROM pg_stat_activity"
            " WHERE pid = %s AND xact_start IS NOT NULL"
        )
        with psycopg.connect(os.environ["KOAN_SOAK_DATABASE"], autocommit=True) as other:
            while not ended.wait(0.001):
                for (open_for,) in other.execute(question, [pid]):
                    longest = max(longest, float(open_for))

    connection.ensure_connection()
    watcher = threading.Thread(target=watch, name="watcher", daemon=True)
    watcher.start()
    try:
        job()
    finally:
        ended.set()
        watcher.join(10)
    return longest
