"""Messages on two buses at once, while workers, their children, senders and connections are taken away.

Two Celery workers consume a bus on the database and one on RabbitMQ; a process sends on both. Afterwards every message
that was sent has had its effect once, and nothing that was rolled back has had any.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

from .crew import Crew, Role, worker
from .faults import Fault, away, inject, stall
from .stage import cut_database, dead, note, servers, set_up, suppressed, under_way, verdict

#: After the last fault: leases run out, reconnections back off, and what waited is handled.
SETTLE_SECONDS = 180


@dataclass(frozen=True)
class Balance:
    """The sums. Of ``uncertain`` messages the sender was killed before it knew: they may have been sent or not."""

    sent: Counter[str]
    uncertain: int
    handled: int
    lost: list[int]
    twice: list[int]
    unsent: list[int]
    dead: int
    suppressed: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, done twice, done unasked or given up."""
        return bool(self.handled) and not (self.lost or self.twice or self.unsent or self.dead)

    def __str__(self) -> str:
        sent = ", ".join(f"{count} on {bus}" for bus, count in sorted(self.sent.items()))
        return (
            f"{sum(self.sent.values())} messages sent ({sent}) and {self.uncertain} perhaps, {self.handled} handled,"
            f" {len(self.lost)} lost, {len(self.twice)} twice, {len(self.unsent)} unasked, {self.dead} dead letters,"
            f" {self.suppressed} duplicates suppressed: the sums {'hold' if self.holds else 'DO NOT HOLD'}"
        )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the sums hold, and the words for it."""
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker):
        set_up(bus.url(vhost.url), broker.url(vhost.url))
        crew = Crew(folder, worker(2), Role("sender", f"tests.soaks.project.sender {seed}.{{number}}"))
        try:
            crew.complete("worker")
            for process in crew["worker"]:  # they declare the queues: before that messages would reach nobody
                process.expect("Consuming the bus rabbitmq", timeout=90)
            crew.complete()
            done = inject(_faults(crew, bus, broker), seed, seconds, note(time.monotonic()))
            for process in crew["sender"]:
                process.stop()
            balance = _settled(vhost, crew)
        finally:
            crew.end()
    return verdict(done, balance, folder, _numbers(balance))


# the faults


def _faults(crew: Crew, bus: Proxy, broker: Proxy) -> list[Fault]:
    def stop_worker(chance: random.Random) -> None:
        stopped = chance.choice(crew["worker"])
        stopped.send(signal.SIGTERM)
        stopped.wait(40)
        crew.complete()

    def kill_sender(chance: random.Random) -> None:
        for process in crew["sender"]:
            process.kill()
        crew.complete()

    return [
        Fault("workers killed", lambda chance: crew.kill("worker", chance), 3),
        Fault("workers stopped", stop_worker),
        Fault("children killed", lambda chance: crew.kill_child("worker", chance), 4),
        Fault("senders killed", kill_sender, 2),
        Fault("bus connections cut", lambda chance: bus.cut(), 3),
        # Longer than the wait for a confirm, at times.
        Fault("bus connections paused", lambda chance: stall(bus, chance.uniform(1, 4))),
        Fault("times RabbitMQ away", lambda chance: away(bus, chance.uniform(0.5, 3))),
        Fault("Celery connections cut", lambda chance: broker.cut()),
        Fault("database connections cut", lambda chance: cut_database(), 2),
    ]


# the sums


def _settled(vhost: Vhost, crew: Crew) -> Balance:
    """Wait until nothing is under way, or for so long; then count."""

    def quiet() -> bool:
        crew.complete("worker")
        return not (missing() or under_way(vhost))

    try:
        wait_until(quiet, SETTLE_SECONDS, "everything to be handled", every=0.5)
    except AssertionError as error:
        print(error, file=sys.stderr)
    return counted()


def missing() -> list[int]:
    """Return the messages that were sent and have had no effect."""
    from django.db.models import Exists, OuterRef

    from tests.soaks.project.models import Effect, Sent

    done = Exists(Effect.objects.filter(number=OuterRef("pk")))
    return list(Sent.objects.filter(~done, certain=True).values_list("pk", flat=True))


def counted() -> Balance:
    """Return the sums as they are now."""
    from django.db.models import Count

    from tests.soaks.project.models import Effect, Sent

    effects = dict(Effect.objects.values_list("number").annotate(Count("pk")))
    rows = list(Sent.objects.values_list("pk", "bus", "certain"))
    return Balance(
        sent=Counter(bus for _, bus, certain in rows if certain),
        uncertain=sum(not certain for *_, certain in rows),
        handled=len(effects),
        lost=missing(),
        twice=sorted(number for number, count in effects.items() if count > 1),
        unsent=sorted(effects.keys() - {number for number, *_ in rows}),
        dead=dead(),
        suppressed=suppressed(),
    )


def _numbers(balance: Balance) -> str:
    named = {"lost": balance.lost, "twice": balance.twice, "unasked": balance.unsent}
    return "; ".join(f"{name}: {numbers[:20]}" for name, numbers in named.items() if numbers)
