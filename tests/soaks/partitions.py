"""Steps of many keys, in order, while the workers that share the partitions are killed, stopped, frozen and added.

One process sends the steps of all keys in turn, on the database bus and on RabbitMQ; a group with a pattern takes them.
Afterwards every key's steps were taken in their order, each once. ``KOAN_SOAK_SCALE`` makes it smaller.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.waiting import wait_until

from .crew import Crew, worker
from .faults import Fault, inject
from .stage import note, servers, set_up, verdict

BUSES = ("database", "rabbitmq")
KEYS, STEPS = 1000, 50  # on each bus: 100,000 messages
WORKERS, MOST_WORKERS = 4, 6
CHUNK = 200
#: One in so many fails once, and holds up its partition.
FAILING = 400
SETTLE_SECONDS = 300


@dataclass
class Tally:
    """What was sent, and what became of it."""

    expected: int
    taken: int = 0
    missing: int = 0
    twice: int = 0
    swapped: list[str] = field(default_factory=list)
    holders: int = 0

    @property
    def holds(self) -> bool:
        """Whether each step was taken once, behind the one before it."""
        return bool(self.expected) and not (self.missing or self.twice or self.swapped)

    def __str__(self) -> str:
        return (
            f"{self.expected} messages sent, {self.taken} taken, {self.missing} missing, {self.twice} twice,"
            f" {len(self.swapped)} keys out of order, partitions on up to {self.holders} workers at once:"
            f" the order {'holds' if self.holds else 'DOES NOT HOLD'}"
        )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the order holds, and the words for it."""
    scale = float(os.environ.get("KOAN_SOAK_SCALE", "1"))
    keys = max(int(KEYS * scale), 1)
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker):
        set_up(bus.url(vhost.url), broker.url(vhost.url))
        crew = Crew(folder, worker(WORKERS, children=1))
        tally = Tally(keys * STEPS * len(BUSES))
        sender = threading.Thread(target=_send, args=(keys, seconds, seed), name="sender", daemon=True)
        try:
            crew.complete()
            for process in crew["worker"]:
                process.expect("Consuming the bus rabbitmq", timeout=120)
            sender.start()
            done = inject(_faults(crew, tally), seed, seconds, note(time.monotonic()))
            sender.join(SETTLE_SECONDS)
            _settle(crew, tally)
        finally:
            crew.end()
    return verdict(done, tally, folder, "; ".join(tally.swapped[:5]))


def _send(keys: int, seconds: float, seed: int) -> None:
    """Send every key's first step, then every key's second, spread over ``seconds``."""
    from koan_django.messaging import send_many
    from tests.soaks.project.messages import StepChecked, StepMade

    chance = random.Random(seed)
    steps = [(f"key-{key}", number) for number in range(STEPS) for key in range(keys)]
    began = time.monotonic()
    for start in range(0, len(steps), CHUNK):
        chunk = steps[start : start + CHUNK]
        for bus in BUSES:
            send_many(
                [
                    (StepMade if number % 2 else StepChecked)(key, number, fails=int(chance.randrange(FAILING) == 0))
                    for key, number in chunk
                ],
                bus=bus,
            )
        time.sleep(max(began + seconds * start / len(steps) - time.monotonic(), 0))


def _faults(crew: Crew, tally: Tally) -> list[Fault]:
    def kill(chance: random.Random) -> None:
        os.killpg(chance.choice(crew["worker"]).pid, signal.SIGKILL)
        time.sleep(chance.uniform(0, 1))
        crew.complete()

    def stop(chance: random.Random) -> None:
        chance.choice(crew["worker"]).send(signal.SIGTERM)
        crew.complete()

    def add(chance: random.Random) -> None:
        tally.holders = max(tally.holders, _holders())
        if len(crew["worker"]) < MOST_WORKERS:
            crew.add("worker")

    return [
        Fault("workers killed", kill, 3),
        Fault("workers stopped", stop, 2),
        # For longer than its leases last: others have taken over when it goes on.
        Fault("workers frozen", lambda chance: crew.freeze("worker", 3, chance), 2),
        Fault("workers added", add, 2),
    ]


def _holders() -> int:
    from django.utils import timezone

    from koan_django.messaging.models import Partition

    held = Partition.objects.filter(lease_until__gt=timezone.now(), bus="rabbitmq")
    return held.order_by().values("lease_owner").distinct().count()


def _settle(crew: Crew, tally: Tally) -> None:
    """Wait until everything was taken, or for so long; then count."""
    from tests.soaks.project.models import Taken

    def over() -> bool:
        crew.complete()
        tally.holders = max(tally.holders, _holders())
        return Taken.objects.count() >= tally.expected

    try:
        wait_until(over, SETTLE_SECONDS, "every step to be taken", every=0.3)
    except AssertionError as error:
        print(error, file=sys.stderr)
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for bus, key, number in Taken.objects.order_by("pk").values_list("bus", "key", "number"):
        numbers[bus, key].append(number)
    tally.taken = sum(map(len, numbers.values()))
    distinct = sum(len(set(each)) for each in numbers.values())
    tally.missing, tally.twice = tally.expected - distinct, tally.taken - distinct
    tally.swapped = [f"{bus} {key}: {each}" for (bus, key), each in numbers.items() if each != sorted(each)]
