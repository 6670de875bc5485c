"""Steps of many keys through the outbox, while the relays that share its lanes are killed, frozen and cut off.

One process writes the steps of all keys in turn, in transactions; four relays publish them to RabbitMQ. Then every
step has arrived, and of each key the first copies arrived in order. ``KOAN_SOAK_SCALE`` makes it smaller.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy
from tests.services.waiting import wait_until

from .crew import Crew, Role
from .faults import Fault, inject
from .stage import cut_database, note, servers, set_up, verdict

KEYS, STEPS = 2000, 100
RELAYS = 4
CHUNK = 500
#: Longer than a lease of the soak's settings lasts.
FREEZE_SECONDS = 5
SETTLE_SECONDS = 300
QUEUE = "koan.steps"


@dataclass
class Arrivals:
    """What came out of the queue. ``swapped`` are keys whose first copies were not in order."""

    expected: int
    arrived: int
    missing: int
    swapped: list[str]

    @property
    def holds(self) -> bool:
        """Whether everything is there, in order."""
        return bool(self.expected) and not (self.missing or self.swapped)

    def __str__(self) -> str:
        again = self.arrived - (self.expected - self.missing)
        return (
            f"{self.expected} messages sent, {self.missing} missing, {again} came again,"
            f" {len(self.swapped)} keys out of order: the order {'holds' if self.holds else 'DOES NOT HOLD'}"
        )


def arrivals(steps: dict[str, list[int]], keys: int, count: int) -> Arrivals:
    """Judge what arrived of each key, in its order."""
    firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in steps.items()}
    return Arrivals(
        expected=keys * count,
        arrived=sum(map(len, steps.values())),
        missing=keys * count - sum(map(len, firsts.values())),
        swapped=[f"{key}: {numbers}" for key, numbers in firsts.items() if numbers != sorted(numbers)],
    )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the order holds, and the words for it."""
    keys = max(int(KEYS * float(os.environ.get("KOAN_SOAK_SCALE", "1"))), 1)
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker):
        set_up(bus.url(vhost.url), broker.url(vhost.url))
        crew = Crew(folder, Role("relay", "django koan_outbox_relay --bus rabbitmq", RELAYS))
        with _receiving(vhost.url) as steps:
            try:
                crew.complete()
                sender = threading.Thread(target=_send, args=(keys, seconds), name="sender", daemon=True)
                sender.start()
                done = inject(_faults(crew, bus), seed, seconds, note(time.monotonic()))
                sender.join(SETTLE_SECONDS)
                _settle(crew, steps, keys * STEPS)
            finally:
                crew.end()
            found = arrivals(steps, keys, STEPS)
    return verdict(done, found, folder, "; ".join(found.swapped[:5]))


@contextmanager
def _receiving(url: str) -> Iterator[dict[str, list[int]]]:
    """Take everything out of a queue as it comes; yield the steps of each key."""
    steps: dict[str, list[int]] = defaultdict(list)
    ended = threading.Event()

    def take(message: Any) -> None:
        step = json.loads(message.body)
        steps[step["key"]].append(step["number"])

    def run(wire: Wire) -> None:
        wire.channel.basic_consume(QUEUE, no_ack=True, callback=take)
        while not ended.is_set():
            try:
                wire.channel.connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue

    with wired(url) as wire:
        wire.queue(QUEUE)
        wire.channel.exchange_declare("koan.to", "topic", durable=True, auto_delete=False)
        wire.channel.queue_bind(QUEUE, "koan.to", "steps.*")
        thread = threading.Thread(target=run, args=(wire,), name="receiver", daemon=True)
        thread.start()
        yield steps
        ended.set()
        thread.join(10)


def _send(keys: int, seconds: float) -> None:
    """Write every key's first step, then every key's second, spread over ``seconds``."""
    from tests.soaks.project.messages import StepMade

    steps = [StepMade(f"key-{key}", number) for number in range(STEPS) for key in range(keys)]
    began = time.monotonic()
    for start in range(0, len(steps), CHUNK):
        _write(steps[start : start + CHUNK])
        time.sleep(max(began + seconds * start / len(steps) - time.monotonic(), 0))


def _write(steps: list[Any]) -> None:
    """Send in one transaction, and again what a connection that was cut has rolled back."""
    from django.db import InterfaceError, OperationalError, connection, transaction

    from koan_django.messaging import send_many

    for _ in range(20):
        try:
            with transaction.atomic():
                send_many(steps, bus="rabbitmq", group="steps")
            return
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.2)
    raise AssertionError("the sender could not write")


def _faults(crew: Crew, bus: Proxy) -> list[Fault]:
    def kill(chance: random.Random) -> None:
        os.killpg(chance.choice(crew["relay"]).pid, signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.5))
        crew.complete()

    def stop(chance: random.Random) -> None:
        chance.choice(crew["relay"]).send(signal.SIGTERM)
        crew.complete()

    return [
        Fault("relays killed", kill, 6),
        Fault("relays stopped", stop),
        # For longer than its leases last: others have taken over when it goes on.
        Fault("relays frozen", lambda chance: crew.freeze("relay", FREEZE_SECONDS, chance)),
        Fault("bus connections cut", lambda chance: bus.cut()),
        Fault("database connections cut", lambda chance: cut_database()),
    ]


def _settle(crew: Crew, steps: dict[str, list[int]], expected: int) -> None:
    """Wait until nothing is left in the outbox and everything has arrived, or for so long."""
    from koan_django.messaging.models import OutboxMessage

    def over() -> bool:
        crew.complete()
        return not OutboxMessage.objects.exists() and sum(len(set(each)) for each in list(steps.values())) >= expected

    try:
        wait_until(over, SETTLE_SECONDS, "everything to arrive", every=0.5)
    except AssertionError as error:
        print(error, file=sys.stderr)
