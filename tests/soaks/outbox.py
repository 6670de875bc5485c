"""Steps of many keys through the outbox, while the relays that share its lanes are killed, frozen and cut off.

One process writes the steps of all keys in turn, in transactions; four relays publish them to RabbitMQ, and each that
is killed is replaced. Relays are killed until all of it was sent, and at least fifty times. Then every step has
arrived, and of each key the first copies arrived in order. ``KOAN_SOAK_SCALE`` makes it smaller.
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
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.messaging.wire import Wire, wired
from tests.services.proxy import Proxy

from .crew import Crew, Role
from .faults import Fault, inject
from .stage import cut_database, note, servers, set_up, verdict

KEYS, STEPS = 2000, 100
RELAYS = 4
KILLS = 50
KILLED = "relays killed"
CHUNK = 500
#: Between two faults once it takes longer than it was to: processes that start leave the sender little of two cores.
EASED = (2.0, 6.0)
#: Longer than a lease of the soak's settings lasts.
FREEZE_SECONDS = 5
#: With nothing that arrives: leases run out, and reconnections back off.
SETTLE_SECONDS = 120
QUEUE = "koan.steps"


@dataclass
class Arrivals:
    """What came out of the queue. ``swapped`` are keys whose first copies were not in order, ``trouble`` is what kept
    the sender from sending all of it.
    """

    expected: int
    arrived: int
    missing: int
    swapped: list[str]
    trouble: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything was sent and is there, in order."""
        return bool(self.expected) and not (self.missing or self.swapped or self.trouble)

    def __str__(self) -> str:
        again = self.arrived - (self.expected - self.missing)
        return (
            f"{self.trouble}{self.expected} messages sent, {self.missing} missing, {again} came again,"
            f" {len(self.swapped)} keys out of order: the order {'holds' if self.holds else 'DOES NOT HOLD'}"
        )


def arrivals(steps: dict[str, list[int]], keys: int, count: int, trouble: str = "") -> Arrivals:
    """Judge what arrived of each key, in its order."""
    firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in steps.items()}
    return Arrivals(
        expected=keys * count,
        arrived=sum(map(len, steps.values())),
        missing=keys * count - sum(map(len, firsts.values())),
        swapped=[f"{key}: {numbers}" for key, numbers in firsts.items() if numbers != sorted(numbers)],
        trouble=trouble,
    )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the order holds, and the words for it."""
    scale = float(os.environ.get("KOAN_SOAK_SCALE", "1"))
    keys = max(int(KEYS * scale), 1)
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker):
        set_up(bus.url(vhost.url), broker.url(vhost.url))
        crew = Crew(folder, Role("relay", "django koan_outbox_relay --bus rabbitmq", RELAYS))
        with _receiving(vhost.url) as steps:
            try:
                crew.complete()
                sender = Sender(keys, seconds)
                sender.start()
                done = _injected(_faults(crew, bus), seed, seconds, sender, KILLS * min(scale, 1))
                sender.join()
                _settle(crew, steps, keys * STEPS)
            finally:
                crew.end()
            found = arrivals(steps, keys, STEPS, sender.trouble)
    return verdict(done, found, folder, "; ".join(found.swapped[:5]))


def _injected(faults: list[Fault], seed: int, seconds: float, sender: Sender, kills: float) -> Counter[str]:
    """Inject faults for so long, and then until everything was sent and relays were killed so often."""
    tell = note(time.monotonic())
    done = inject(faults, seed, seconds, tell)
    while sender.is_alive() or done[KILLED] < kills:
        seed += 1
        done += inject(faults, seed, 10, tell, EASED)
    return done


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


class Sender(threading.Thread):
    """Writes every key's first step, then every key's second, spread over ``seconds`` where it is not slower.

    ``trouble`` says what ended it too early.
    """

    def __init__(self, keys: int, seconds: float) -> None:
        super().__init__(name="sender", daemon=True)
        self.trouble = ""
        self._keys, self._seconds = keys, seconds

    def run(self) -> None:
        try:
            self._send()
        except Exception as error:
            self.trouble = f"the sender ended too early: {error!r}; "
            raise

    def _send(self) -> None:
        from tests.soaks.project.messages import StepMade

        steps = [StepMade(f"key-{key}", number) for number in range(STEPS) for key in range(self._keys)]
        began = time.monotonic()
        for start in range(0, len(steps), CHUNK):
            _write(steps[start : start + CHUNK])
            time.sleep(max(began + self._seconds * start / len(steps) - time.monotonic(), 0))


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
    raise AssertionError("the database took nothing")


def _faults(crew: Crew, bus: Proxy) -> list[Fault]:
    def kill(chance: random.Random) -> None:
        os.killpg(chance.choice(crew["relay"]).pid, signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.5))
        crew.complete()

    def stop(chance: random.Random) -> None:
        chance.choice(crew["relay"]).send(signal.SIGTERM)
        crew.complete()

    return [
        Fault(KILLED, kill, 6),
        Fault("relays stopped", stop),
        # For longer than its leases last: others have taken over when it goes on.
        Fault("relays frozen", lambda chance: crew.freeze("relay", FREEZE_SECONDS, chance)),
        Fault("bus connections cut", lambda chance: bus.cut()),
        Fault("database connections cut", lambda chance: cut_database()),
    ]


def _settle(crew: Crew, steps: dict[str, list[int]], expected: int) -> None:
    """Wait until nothing is left in the outbox and everything has arrived, or nothing has for so long."""
    from koan_django.messaging.models import OutboxMessage

    arrived, at = 0, time.monotonic()
    while time.monotonic() - at < SETTLE_SECONDS:
        crew.complete()
        now = sum(len(set(each)) for each in list(steps.values()))
        if now >= expected and not OutboxMessage.objects.exists():
            return
        if now > arrived:
            arrived, at = now, time.monotonic()
        time.sleep(0.5)
    print(f"nothing has arrived for {SETTLE_SECONDS} s", file=sys.stderr)
