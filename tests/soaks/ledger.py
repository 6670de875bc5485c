"""Money on its way between accounts, while everything that carries it is killed, cut off or stalled.

Tellers debit an account and announce the transfer in the same transaction; the outbox, relays, RabbitMQ and Celery
workers with the inbox carry it to the handler that credits the other account. Each account numbers its transfers.
Afterwards every ledger has the balance that its transfers make: none was lost, none credited twice, and the transfers
of each account were credited in their order.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

from .crew import Crew, Role, worker
from .faults import Fault, away, inject, slow, stall
from .stage import cut_database, dead, elsewhere, note, servers, set_up, suppressed, under_way, verdict

ACCOUNTS, OPENING = 24, 1_000_000
WORKERS, RELAYS, TELLERS = 3, 2, 2
#: Between two faults, in seconds: most of them take a while by themselves.
PAUSE = (0.1, 0.9)
#: After the last fault: leases run out, reconnections back off, and what waited is credited.
SETTLE_SECONDS = 300

#: A transfer: source, target, amount, and which one of its source it is.
Transfer = tuple[int, int, int, int]


@dataclass(frozen=True)
class Ledgers:
    """The sums. ``wrong`` are accounts whose balance is not what their transfers make, ``swapped`` those whose
    transfers were credited out of order.
    """

    transfers: int
    moved: int
    credited: int
    total: int
    opened: int
    lost: list[Transfer]
    doubled: list[Transfer]
    unasked: list[Transfer]
    wrong: list[int]
    swapped: list[int]
    dead: int
    suppressed: int

    @property
    def holds(self) -> bool:
        """Whether every ledger is right, with its transfers in order."""
        amiss = self.lost or self.doubled or self.unasked or self.wrong or self.swapped or self.dead
        return bool(self.credited) and self.total == self.opened and not amiss

    def __str__(self) -> str:
        return (
            f"{self.transfers} transfers of {self.moved} in all, {self.credited} credited: {len(self.lost)} lost,"
            f" {len(self.doubled)} doubled, {len(self.unasked)} unasked, {len(self.swapped)} accounts out of order,"
            f" {len(self.wrong)} accounts with a wrong balance, {self.dead} dead letters, {self.suppressed} duplicates"
            f" suppressed; the accounts hold {self.total} of {self.opened}:"
            f" the ledgers {'are right' if self.holds else 'ARE WRONG'}"
        )


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Run it; return whether the ledgers are right, and the words for it."""
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    with servers() as (vhost, bus, broker), Proxy.before(os.environ["KOAN_SOAK_DATABASE"]) as database:
        set_up(bus.url(vhost.url), broker.url(vhost.url))
        _open_accounts()
        crew = _crew(folder, seed, elsewhere(database.url(os.environ["KOAN_SOAK_DATABASE"])))
        try:
            crew.complete("worker")
            for process in crew["worker"]:  # they declare the queues: before that messages would reach nobody
                process.expect("Consuming the bus rabbitmq", timeout=120)
            crew.complete()
            faults = _faults(crew, vhost.broker, bus, broker, database)
            done = inject(faults, seed, seconds, note(time.monotonic()), PAUSE)
            for process in crew["teller"]:
                process.stop()
            ledgers = _settled(vhost, crew)
        finally:
            crew.end()
    return verdict(done, ledgers, folder, _examples(ledgers))


def _open_accounts() -> None:
    from tests.soaks.project.models import Account

    Account.objects.bulk_create(Account(balance=OPENING) for _ in range(ACCOUNTS))


def _crew(folder: Path, seed: int, environment: dict[str, str]) -> Crew:
    """Everybody reaches the database through a proxy; who counts does not."""
    return Crew(
        folder,
        worker(WORKERS, environment=environment),
        Role("relay", "django koan_outbox_relay --bus rabbitmq", RELAYS, environment),
        Role("teller", f"tests.soaks.project.teller {seed}.{{number}}", TELLERS, environment),
    )


def _faults(crew: Crew, rabbitmq: RabbitMQ, bus: Proxy, broker: Proxy, database: Proxy) -> list[Fault]:
    def kill_broker(chance: random.Random) -> None:
        rabbitmq.kill()
        time.sleep(chance.uniform(0, 2))
        rabbitmq.revive()

    def anybody(chance: random.Random) -> str:
        return chance.choice(("worker", "relay", "teller"))

    # Somebody else's broker, one that the environment names, is not killed; the ways to it are.
    killed = [Fault("brokers killed", kill_broker)] if rabbitmq.pids else []
    return [
        *killed,
        Fault("workers killed", lambda chance: crew.kill("worker", chance), 3),
        Fault("workers stopped", lambda chance: crew.relieve("worker", chance), 2),
        Fault("children of workers killed", lambda chance: crew.kill_child("worker", chance), 3),
        Fault("relays killed", lambda chance: crew.kill("relay", chance), 4),
        Fault("relays stopped", lambda chance: crew.relieve("relay", chance), 2),
        Fault("tellers killed", lambda chance: crew.kill("teller", chance), 2),
        Fault("processes frozen", lambda chance: crew.freeze(anybody(chance), chance.uniform(1, 4), chance), 2),
        Fault("broker connections cut", lambda chance: bus.cut(), 4),
        Fault("Celery connections cut", lambda chance: broker.cut(), 2),
        Fault("times the broker was away", lambda chance: away(bus, chance.uniform(0.5, 3)), 2),
        Fault("ways to the broker stalled", lambda chance: stall(bus, chance.uniform(1, 4)), 2),
        Fault("ways to the broker slow", lambda chance: slow(bus, chance.uniform(1, 2), 0.1), 2),
        Fault("database connections ended", lambda chance: cut_database(), 3),
        Fault("ways to the database cut", lambda chance: database.cut(), 3),
        Fault("ways to the database stalled", lambda chance: stall(database, chance.uniform(1, 4)), 2),
        Fault("ways to the database slow", lambda chance: slow(database, chance.uniform(1, 2), 0.02), 2),
    ]


# the sums


def _settled(vhost: Vhost, crew: Crew) -> Ledgers:
    """Wait until nothing is under way, or for so long; then count."""

    def quiet() -> bool:
        crew.complete("worker", "relay")
        return not (counted().lost or under_way(vhost))

    try:
        wait_until(quiet, SETTLE_SECONDS, "every transfer to be credited", every=1)
    except AssertionError as error:
        print(error, file=sys.stderr)
    return counted()


def counted() -> Ledgers:
    """Return the sums as they are now."""
    from tests.soaks.project import models

    columns = ("source", "target", "amount", "number")
    transfers = list(models.Transfer.objects.order_by("pk").values_list(*columns))
    postings = list(models.Posting.objects.order_by("pk").values_list(*columns))
    balances = dict(models.Account.objects.values_list("pk", "balance"))
    return tally(transfers, postings, balances, dead=dead(), suppressed=suppressed())


def tally(
    transfers: list[Transfer], postings: list[Transfer], balances: dict[int, int], *, dead: int, suppressed: int
) -> Ledgers:
    """Compare what was debited with what was credited, and both with the balances."""
    posted, expected = Counter(postings), dict.fromkeys(balances, OPENING)
    for source, target, amount, _number in transfers:
        expected[source] -= amount
        expected[target] += amount
    return Ledgers(
        transfers=len(transfers),
        moved=sum(amount for _source, _target, amount, _number in transfers),
        credited=len(postings),
        total=sum(balances.values()),
        opened=OPENING * len(balances),
        lost=[each for each in transfers if each not in posted],
        doubled=[each for each, count in posted.items() if count > 1],
        unasked=sorted(posted.keys() - set(transfers)),
        wrong=[account for account, balance in balances.items() if balance != expected[account]],
        swapped=_swapped(postings),
        dead=dead,
        suppressed=suppressed,
    )


def _swapped(postings: Iterable[Transfer]) -> list[int]:
    """Return the accounts of which a transfer was credited before an earlier one."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for source, _target, _amount, number in postings:
        numbers[source].append(number)
    return [source for source, found in numbers.items() if found != sorted(found)]


def _examples(ledgers: Ledgers) -> str:
    named = {
        "lost": ledgers.lost,
        "doubled": ledgers.doubled,
        "unasked": ledgers.unasked,
        "wrong": ledgers.wrong,
        "out of order": ledgers.swapped,
    }
    return "; ".join(f"{name}: {found[:10]}" for name, found in named.items() if found)
