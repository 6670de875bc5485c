"""How long one tenant waits while another has a backlog of 100,000 messages, and how long without it.

A Celery worker handles messages that take 5 ms each. One tenant sends at a steady rate, first alone, then beside the
backlog. ``KOAN_SOAK_SCALE`` makes the backlog smaller; ``KOAN_SOAK_TENANTS=shared`` shows what happens in one queue.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from tests.services.waiting import wait_until

from .crew import Crew, worker
from .stage import note, servers, set_up

BACKLOG = 100_000
CHUNK = 1000
#: Well below what one place of the pool can do on a busy machine: what it cannot do is a backlog of its own.
RATE = 5.0
PROCESSES = 4
GOAL = 2.0
SETTLE_SECONDS = 300


@dataclass
class Latencies:
    """From sending to the end of the handler, in seconds, of the quiet tenant."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    #: How much of the backlog was left at the end.
    left: int = 0

    @property
    def ratio(self) -> float:
        """How much longer the 99th percentile is beside the backlog."""
        return quantile(self.beside, 0.99) / quantile(self.alone, 0.99)

    @property
    def holds(self) -> bool:
        """Whether there was a backlog all the time, and the other tenant hardly felt it."""
        return self.left > 0 and self.ratio < GOAL

    def __str__(self) -> str:
        alone, beside = (
            f"p50 {quantile(each, 0.5) * 1000:.1f} ms and p99 {quantile(each, 0.99) * 1000:.1f} ms of {len(each)}"
            for each in (self.alone, self.beside)
        )
        return (
            f"alone {alone}; beside a backlog of which {self.left} were left {beside}; p99 is {self.ratio:.2f} times as"
            f" long: the goal of {GOAL:g} is {'met' if self.holds else 'NOT MET'}"
        )


def quantile(values: list[float], part: float) -> float:
    """Return the value that ``part`` of them do not exceed."""
    return sorted(values)[ceil(part * len(values)) - 1]


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Measure for ``seconds`` with the backlog and as long without; return whether the goal is met, and the words."""
    apart = os.environ.get("KOAN_SOAK_TENANTS") != "shared"
    backlog = max(int(BACKLOG * float(os.environ.get("KOAN_SOAK_SCALE", "1"))), 1)
    folder, found, say = Path(tempfile.mkdtemp(prefix="koan-soak-")), Latencies(), note(time.monotonic())
    with servers() as (vhost, _, broker):
        options = {"TENANTS": {"busy": "queues", "quiet": "queues"}} if apart else {}
        set_up(vhost.url, broker.url(vhost.url), options)
        crew = Crew(folder, worker(1, children=PROCESSES))
        try:
            crew.complete()
            bus = "rabbitmq.t.quiet" if apart else "rabbitmq"
            crew["worker"][0].expect(f"Consuming the bus {bus}", timeout=120)
            _steady(RATE, 3)  # until everything is imported and connected
            say("alone")
            found.alone = _steady(RATE, seconds)
            say(f"a backlog of {backlog}")
            _pile_up(backlog)
            say("beside it")
            found.beside = _steady(RATE, seconds)
            found.left = backlog - _served("busy")
        finally:
            crew.end()
    shutil.rmtree(folder, ignore_errors=True)
    return found.holds, str(found)


def _pile_up(count: int) -> None:
    from koan_django.core.context import tenant
    from koan_django.messaging import send_many
    from tests.soaks.project.messages import Visit

    with tenant.use("busy"):
        for start in range(0, count, CHUNK):
            send_many([Visit(number) for number in range(start, min(start + CHUNK, count))], bus="rabbitmq")


def _steady(rate: float, seconds: float) -> list[float]:
    """Send at a steady rate, whatever becomes of it; return how long each message took."""
    from koan_django.core.context import tenant
    from tests.soaks.project.messages import Visit
    from tests.soaks.project.models import Served

    before, count = _served("quiet"), ceil(rate * seconds)
    began = time.monotonic()
    with tenant.use("quiet"):
        for number in range(count):
            time.sleep(max(began + number / rate - time.monotonic(), 0))
            Visit(number).send(bus="rabbitmq")
    wait_until(lambda: _served("quiet") == before + count, SETTLE_SECONDS, "the quiet tenant to be served", every=0.2)
    rows = Served.objects.filter(tenant="quiet").order_by("pk")[before:]
    return [row.seconds for row in rows]


def _served(tenant: str) -> int:
    from tests.soaks.project.models import Served

    return Served.objects.filter(tenant=tenant).count()
