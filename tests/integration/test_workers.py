"""Live workers that are stopped, killed, cut off and restarted: nothing is lost, and effects happen once."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
from django.db import connection

from koan_django.messaging import lifecycle, send_many
from koan_django.messaging.models import DeadLetter, MessageEvent, QueuedDelivery
from tests.integration.conftest import Live, kinds
from tests.integration.project.messages import LongWork, Work
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

database = pytest.mark.database


def address(name: str, request: pytest.FixtureRequest) -> str:
    """The URL of a bus or a broker by its short name."""
    if name == "amqp":
        vhost: Vhost = request.getfixturevalue("vhost")
        return vhost.url
    return f"{name}://"


def on_both_buses(function: object) -> object:
    marks = [pytest.param("database", marks=database), pytest.param("amqp", marks=pytest.mark.services("rabbitmq"))]
    return pytest.mark.parametrize("bus", marks)(function)


@pytest.mark.services("rabbitmq")
@pytest.mark.parametrize(
    ("pool", "broker", "bus"),
    [
        pytest.param("prefork", "filesystem", "database", marks=database),
        ("prefork", "amqp", "amqp"),
        ("threads", "filesystem", "amqp"),
        pytest.param("threads", "amqp", "database", marks=database),
        ("solo", "filesystem", "database"),
        ("solo", "amqp", "amqp"),
    ],
)
def test_a_warm_stop_finishes_what_is_in_flight_and_the_next_worker_does_the_rest(
    live: Live, request: pytest.FixtureRequest, pool: str, broker: str, bus: str
) -> None:
    live.use(address(bus, request), address(broker, request))
    worker = live.worker(pool=pool)
    send_many([Work(number, seconds=0.02) for number in range(100)])
    send_many([LongWork(number, seconds=0.1) for number in range(100, 110)])
    wait_until(lambda: len(live.effects()) >= 10, 30, "some work to be done")
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0
    done = live.effects()
    if (pool, broker) == ("prefork", "amqp"):  # without an event loop Celery takes up to two seconds to see the signal
        assert len(done) < 110  # it did not stay for all of it
    assert len(live.calls()) == len(done)  # and broke off nothing
    live.worker(pool=pool)
    live.once(110)
    assert len(live.calls()) == 110  # nothing was handled twice, not even as a duplicate
    wait_until(lambda: not QueuedDelivery.objects.exists(), 30, "what was handled to be settled")
    assert kinds() == {"sent": 110, "handled": 110, **({"published": 110} if bus == "amqp" else {})}


@on_both_buses
def test_a_message_that_kills_its_child_is_tried_again_and_its_neighbours_are_unharmed(
    live: Live, request: pytest.FixtureRequest, bus: str
) -> None:
    live.use(address(bus, request))
    live.worker()
    send_many([Work(number) for number in range(40)])
    live.once(40)  # quick ones go in batches now
    deadly = {45: 1, 50: 2, 55: 99}
    send_many([Work(number, dies=deadly.get(number, 0)) for number in range(40, 60)])
    wait_until(DeadLetter.objects.exists, 60, "the dead letter")
    wait_until(lambda: len(live.effects()) == 59, 60, "all others to be done")
    assert live.effects() == Counter(set(range(60)) - {55})
    dead = DeadLetter.objects.get()
    assert (dead.envelope().decode(Work).number, dead.reason, dead.attempt) == (55, "exhausted", 3)
    assert dead.error_type.endswith("WorkerLostError")
    attempts = {number: {attempt for other, attempt, _ in live.calls() if other == number} for number in deadly}
    assert attempts == {45: {1, 2}, 50: {1, 2, 3}, 55: {1, 2, 3}}
    neighbours = {attempt for number, attempt, _ in live.calls() if number not in deadly}
    assert neighbours == {1}  # somebody else's death does not count against them


@on_both_buses
def test_a_worker_that_is_killed_leaves_its_work_to_the_next(
    live: Live, request: pytest.FixtureRequest, bus: str
) -> None:
    live.use(address(bus, request))
    for _ in range(2):
        worker = live.worker()
        if not live.effects():
            send_many([Work(number, seconds=0.05) for number in range(60)])
            send_many([LongWork(number, seconds=0.2) for number in range(60, 63)])
        # Under load this process may look so late that the first has done nearly all of it.
        enough = min(len(live.effects()) + 10, 60)
        wait_until(lambda: len(live.effects()) >= enough, 30, "some work to be done")  # noqa: B023
        worker.kill()
    live.worker()
    # A worker that is killed before it has recorded what it did leaves a duplicate to the next, and no other trace.
    ended = MessageEvent.objects.filter(kind__in=["handled", "duplicate"]).values("message_id").distinct()
    wait_until(lambda: ended.count() == 63, 90, "all to be handled: long work waits for the leases of the inbox")
    effects = live.effects()
    assert Counter({number: effects[number] for number in range(60)}) == Counter(range(60))
    # What runs outside a transaction may have had its effect just before the kill, and cannot have marked it.
    assert all(1 <= effects[number] <= 3 for number in range(60, 63))
    assert not DeadLetter.objects.exists()


@pytest.mark.services("rabbitmq")
def test_batches_that_celery_discarded_with_its_connection_are_submitted_again(live: Live, vhost: Vhost) -> None:
    """Its own broker goes away while the bus stays: what waits in the pool is dropped without a word."""
    with Proxy.before(vhost.url) as proxy:
        live.use("database://", proxy.url(vhost.url))
        worker = live.worker(size=1)
        send_many([Work(number, seconds=1.0) for number in range(6)])
        wait_until(live.calls, 30, "the first message")
        proxy.cut()
        worker.expect("Submitting", timeout=30)
        live.once(6)
    assert worker.running


@pytest.mark.services("rabbitmq")
def test_a_worker_that_starts_while_rabbitmq_is_down_consumes_when_it_is_back(live: Live, vhost: Vhost) -> None:
    with Proxy.before(vhost.url) as proxy:
        live.use(proxy.url(vhost.url), proxy.url(vhost.url))
        proxy.shut()
        worker = live.worker(says="Trying again in")
        send_many([Work(number) for number in range(10)])  # they wait in the outbox
        proxy.open()
        worker.expect("Consuming the bus main", timeout=60)
        live.once(10)
        proxy.cut()  # and the same when it is lost later
        send_many([Work(number) for number in range(10, 20)])
        live.once(20)


@pytest.mark.services("rabbitmq")
def test_other_processes_see_a_worker_wait_for_its_bus_and_go_live(live: Live, vhost: Vhost) -> None:
    def consuming() -> list[str]:
        return [fact.selection for _, fact in lifecycle.of_all()["main"] if fact.subject == "messaging.consuming.main"]

    with Proxy.before(vhost.url) as proxy:
        live.use(proxy.url(vhost.url))  # Celery has its own broker
        proxy.shut()
        live.worker(pool="threads", says="The bus main is not consumed")
        wait_until(lambda: consuming() == ["waiting"], 30, "the worker to say that it waits")
        proxy.open()
        wait_until(lambda: consuming() == ["live"], 30, "the worker to say that it is live")


@on_both_buses
def test_children_that_come_and_go_do_not_disturb_the_threads_of_their_parent(
    live: Live, request: pytest.FixtureRequest, bus: str
) -> None:
    """A fork for each batch, while threads of the main process poll the database and hold connections."""
    live.use(address(bus, request), POLL_INTERVAL=0.005)
    worker = live.worker("--max-tasks-per-child=1")
    for start in range(0, 12, 4):
        send_many([Work(number) for number in range(start, start + 4)])
        wait_until(lambda: len(live.effects()) >= start + 4, 60, "four more")  # noqa: B023
    live.once(12)
    assert len({pid for _, _, pid in live.calls()}) >= 6
    assert worker.running
    assert "not consumed" not in worker.output
    assert "Traceback" not in worker.output
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            assert cursor.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_worker_without_any_server_for_celery_handles_messages(live: Live) -> None:
    """``memory://``, as the README offers it to those who have no tasks."""
    live.use("database://", "memory://")
    worker = live.worker()
    send_many([Work(number) for number in range(20)])
    live.once(20)
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0
