"""Messages on two buses at once, while workers, their children, senders and connections are taken away.

Two Celery workers consume a bus on the database and one on RabbitMQ; a process sends on both. Afterwards every message
that was sent has had its effect once, and nothing that was rolled back has had any.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.services.postgres import Postgres
from tests.services.process import Process
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

from .faults import Fault, inject

ROOT = Path(__file__).parents[2]
WORKERS = 2
#: Celery's own end when a child is killed before its loop runs; whatever starts workers starts it again.
CELERY_GAVE_UP = "Could not start worker processes"
#: A warm stop, a kill, and a stop before the worker had learnt to stop warmly.
_WELL_ENDED = (0, -signal.SIGKILL, -signal.SIGTERM)
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


class Cast:
    """The processes of a run. Whoever was killed is replaced by :meth:`complete`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._count = 0
        self.workers: list[Process] = []
        self.sender: Process | None = None

    def complete(self) -> None:
        """Start who is missing."""
        self.complete_workers()
        if self.sender is None or _gone(self.sender):
            self.sender = self._start("sender", "tests.soaks.project.sender", f"{self._seed}.{self._count}")

    def complete_workers(self) -> None:
        """Start the workers that are missing."""
        self.workers = [worker for worker in self.workers if not _gone(worker)]
        while len(self.workers) < WORKERS:
            words = ["celery", "-A", "tests.soaks.project", "worker", "-c", "2", "-l", "info"]
            self.workers.append(self._start("worker", *words, "-n", f"soak{self._count}@soak"))

    def stop_sending(self) -> None:
        """Let the sender finish what it is at."""
        if self.sender is not None:
            self.sender.stop()

    def end(self) -> None:
        """End everybody."""
        for process in (*self.workers, *([self.sender] if self.sender else [])):
            process.kill()

    def _start(self, name: str, *module: str) -> Process:
        self._count += 1
        log = self._folder / f"{name}-{self._count}.log"
        return Process(name, [sys.executable, "-m", *module], log, env=os.environ, cwd=ROOT)


def _gone(process: Process) -> bool:
    """Whether the process was ended; one that ended by itself is a finding."""
    if process.returncode not in (None, *_WELL_ENDED) and CELERY_GAVE_UP not in process.output:
        raise AssertionError(f"{process.name} ended by itself with {process.returncode}:\n{process.tail(100)}")
    return not process.running


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the sums hold, and the words for it."""
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with _servers() as (vhost, bus, broker):
        _set_up(bus.url(vhost.url), broker.url(vhost.url))
        cast = Cast(folder, seed)
        try:
            cast.complete_workers()
            for worker in cast.workers:  # they declare the queues: before that messages would reach nobody
                worker.expect("Consuming the bus rabbitmq", timeout=90)
            cast.complete()
            done = inject(_faults(cast, bus, broker), seed, seconds, _note(time.monotonic()))
            cast.stop_sending()
            balance = _settled(vhost, cast)
        finally:
            cast.end()
    injected = "injected " + ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    if balance.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return True, f"{injected}; {balance}"
    return False, f"{injected}; {balance}; logs in {folder}; {_numbers(balance)}"


# the stage


@contextmanager
def _servers() -> Iterator[tuple[Vhost, Proxy, Proxy]]:
    """Start what is needed; yield the virtual host and the proxies before it, one for the bus and one for Celery."""
    with ExitStack() as stack:
        postgres, rabbitmq = Postgres(), RabbitMQ()
        for server in (postgres, rabbitmq):
            server.start()
            stack.callback(server.stop)
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.soaks.project.settings"
        os.environ["KOAN_SOAK_DATABASE"] = stack.enter_context(postgres.database())
        vhost = stack.enter_context(rabbitmq.vhost())
        bus, broker = (stack.enter_context(Proxy.before(vhost.url)) for _ in range(2))
        yield vhost, bus, broker


def _set_up(bus: str, broker: str, options: Mapping[str, Any] = MappingProxyType({})) -> None:
    import django
    from django.core.management import call_command

    stage = {"database": os.environ["KOAN_SOAK_DATABASE"], "bus": bus, "broker": broker, "options": dict(options)}
    os.environ["KOAN_SOAK"] = json.dumps(stage)
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


def _note(began: float) -> Callable[[str], None]:
    return lambda name: print(f"{time.monotonic() - began:6.1f} s  {name}", file=sys.stderr, flush=True)


# the faults


def _faults(cast: Cast, bus: Proxy, broker: Proxy) -> list[Fault]:
    def kill_worker(chance: random.Random) -> None:
        os.kill(chance.choice(cast.workers).pid, signal.SIGKILL)  # the main process alone: its children must see to it
        time.sleep(chance.uniform(0, 1))
        cast.complete()

    def stop_worker(chance: random.Random) -> None:
        worker = chance.choice(cast.workers)
        worker.send(signal.SIGTERM)
        worker.wait(40)
        cast.complete()

    def kill_child(chance: random.Random) -> None:
        children = _children(chance.choice(cast.workers).pid)
        if children:
            os.kill(chance.choice(children), signal.SIGKILL)

    def kill_sender(chance: random.Random) -> None:
        assert cast.sender is not None
        cast.sender.kill()
        cast.complete()

    def pause(chance: random.Random) -> None:
        bus.pause()
        time.sleep(chance.uniform(1, 4))  # longer than the wait for a confirm, at times
        bus.resume()

    def shut(chance: random.Random) -> None:
        bus.shut()
        bus.cut()
        time.sleep(chance.uniform(0.5, 3))
        bus.open()

    return [
        Fault("workers killed", kill_worker, 3),
        Fault("workers stopped", stop_worker),
        Fault("children killed", kill_child, 4),
        Fault("senders killed", kill_sender, 2),
        Fault("bus connections cut", lambda chance: bus.cut(), 3),
        Fault("bus connections paused", pause),
        Fault("times RabbitMQ away", shut),
        Fault("Celery connections cut", lambda chance: broker.cut()),
        Fault("database connections cut", lambda chance: _cut_database(), 2),
    ]


def _children(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return sorted(int(child) for child, parent in map(str.split, listing.splitlines()) if int(parent) == pid)


def _cut_database() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


# the sums


def _settled(vhost: Vhost, cast: Cast) -> Balance:
    """Wait until nothing is under way, or for so long; then count."""

    def quiet() -> bool:
        cast.complete_workers()
        return not (_missing() or _under_way(vhost))

    try:
        wait_until(quiet, SETTLE_SECONDS, "everything to be handled", every=0.5)
    except AssertionError as error:
        print(error, file=sys.stderr)
    return _counted()


def _missing() -> list[int]:
    from django.db.models import Exists, OuterRef

    from tests.soaks.project.models import Effect, Sent

    done = Exists(Effect.objects.filter(number=OuterRef("pk")))
    return list(Sent.objects.filter(~done, certain=True).values_list("pk", flat=True))


def _under_way(vhost: Vhost) -> int:
    from koan_django.messaging.models import OutboxMessage, QueuedDelivery

    waiting = sum(queue.get("messages", 1) for name, queue in vhost.queues().items() if name.startswith("koan"))
    return waiting + OutboxMessage.objects.count() + QueuedDelivery.objects.count()


def _counted() -> Balance:
    from django.db.models import Count

    from koan_django.messaging.models import DeadLetter, MessageEvent
    from tests.soaks.project.models import Effect, Sent

    effects = dict(Effect.objects.values_list("number").annotate(Count("pk")))
    rows = list(Sent.objects.values_list("pk", "bus", "certain"))
    return Balance(
        sent=Counter(bus for _, bus, certain in rows if certain),
        uncertain=sum(not certain for *_, certain in rows),
        handled=len(effects),
        lost=_missing(),
        twice=sorted(number for number, count in effects.items() if count > 1),
        unsent=sorted(effects.keys() - {number for number, *_ in rows}),
        dead=DeadLetter.objects.count(),
        suppressed=MessageEvent.objects.filter(kind="duplicate").count(),
    )


def _numbers(balance: Balance) -> str:
    named = {"lost": balance.lost, "twice": balance.twice, "unasked": balance.unsent}
    return "; ".join(f"{name}: {numbers[:20]}" for name, numbers in named.items() if numbers)
