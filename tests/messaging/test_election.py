"""The bus of a project that names none: where brokers are looked for, and what follows whom."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from kombu import Connection

from koan_django.core import facts, policy
from koan_django.core.election import proclaim
from koan_django.core.environment import Environment, Trait
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.amqp import AmqpBus
from koan_django.messaging.buses.amqp.topology import declare
from koan_django.messaging.buses.database import DatabaseBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.candidates import DATABASE, brokers
from koan_django.messaging.checks import check_names
from koan_django.messaging.conf import BusOptions, options
from koan_django.messaging.lifecycle import Stage
from koan_django.messaging.models import OutboxMessage, QueuedDelivery
from koan_django.messaging.signals import bus_state_changed
from koan_django.messaging.statistics.status import status
from koan_django.messaging.worker.runner import BusRunner
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPlaced, StockMoved, ThreadPool, listening
from tests.services import wait_until
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost

NO, YES = Trait(False), Trait(True, "a sign")
PLAIN = Environment(container=NO, kubernetes=NO, ci=NO)


def named(environ: dict[str, str], here: Environment = PLAIN) -> list[tuple[str, str]]:
    return [(each.name, each.origin) for each in brokers(environ, here)]


class TestCandidates:
    def test_a_plain_machine_suggests_none(self) -> None:
        assert named({}) == []

    def test_variables_come_in_their_order_and_may_list_several(self) -> None:
        environ = {
            "RABBITMQ_URL": "amqp://c/",
            "Koan_RABBITMQ_URL": "amqp://b1/, amqps://u:p,w@b2/v ;",
            "KOAN_RABBITMQ_URL": "amqp://u:secret@a/",
        }
        assert named(environ) == [
            ("amqp://a/", "the variable KOAN_RABBITMQ_URL"),
            ("amqp://b1/", "the variable Koan_RABBITMQ_URL"),
            ("amqps://b2/v", "the variable Koan_RABBITMQ_URL"),
            ("amqp://c/", "the variable RABBITMQ_URL"),
        ]

    def test_a_container_and_debug_add_the_usual_places_behind_them(self) -> None:
        here = replace(PLAIN, container=YES, debug=True)
        assert [name for name, _ in named({"RABBITMQ_URL": "amqp://a/"}, here)] == [
            "amqp://a/",
            "amqp://rabbitmq:5672//",
            "amqp://localhost:5672//",
        ]

    def test_localhost_is_for_debug_only(self) -> None:
        assert named({}, replace(PLAIN, container=YES)) == [
            ("amqp://rabbitmq:5672//", "the usual name of a broker beside a container")
        ]

    def test_a_place_that_is_named_twice_is_one(self) -> None:
        assert len(named({"KOAN_RABBITMQ_URL": "amqp://a/", "RABBITMQ_URL": "amqp://u:p@a/"})) == 1


class TestOptions:
    def test_a_project_without_a_url_elects_its_default_bus_only(self, settings: Any) -> None:
        settings.KOAN = {"MESSAGING": {"BUSES": {"main": {}, "bulk": {}}}}
        assert options().elected == "main"
        assert isinstance(registry.get("main"), ElectedBus)
        assert isinstance(registry.get("bulk"), DatabaseBus)

    @pytest.mark.parametrize("alias", ["main", "bulk"])
    def test_one_url_anywhere_ends_the_guessing(self, settings: Any, alias: str) -> None:
        settings.KOAN = {"MESSAGING": {"BUSES": {"main": {}, "bulk": {}} | {alias: {"URL": "memory://"}}}}
        assert options().elected is None
        assert not isinstance(registry.get("main"), ElectedBus)

    def test_under_test_no_broker_is_a_candidate(self, settings: Any, monkeypatch: Any) -> None:
        monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
        settings.KOAN, settings.DEBUG = {}, True
        bus = registry.get("main")
        assert isinstance(bus, ElectedBus)
        assert bus.candidates == {}
        assert BusRunner(ThreadPool(1)).electors == []

    def test_deploy_w008_names_the_guessing(self, settings: Any) -> None:
        settings.KOAN = {}
        assert "koan_messaging.W008" in [message.id for message in check_names(None)]
        with override_koan(MESSAGING={"BUSES": {"main": {"URL": "database://"}}}):
            assert "koan_messaging.W008" not in [message.id for message in check_names(None)]


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave as in a process that serves: what was proclaimed is kept until it changes."""
    monkeypatch.setattr(policy, "under_test", lambda: False)
    policy.watch.forget()
    yield
    policy.watch.forget()


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("serving")
class TestFollowing:
    @pytest.fixture
    def bus(self, monkeypatch: Any) -> Iterator[ElectedBus]:
        """The bus ``main`` with two candidates at which nobody listens."""
        found = brokers({"RABBITMQ_URL": "amqp://127.0.0.1:1/a,amqp://127.0.0.1:1/b"}, PLAIN)
        made = ElectedBus("main", BusOptions(), found)
        monkeypatch.setitem(registry._made, "main", made)
        yield made
        made.close()

    def test_a_sender_without_candidates_asks_nobody(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            assert isinstance(ElectedBus("main", BusOptions()).current, DatabaseBus)

    def test_until_something_is_proclaimed_messages_wait_in_the_database(self, bus: ElectedBus) -> None:
        with listening(OrderPlaced):
            assert OrderPlaced(1).send().state == "accepted"
        assert QueuedDelivery.objects.count() == 1
        assert bus.place == "database://"

    def test_senders_follow_what_is_proclaimed(self, bus: ElectedBus) -> None:
        first, second = bus.candidates.values()
        proclaim(bus.subject, second, 1)
        assert isinstance(bus.current, AmqpBus)
        assert bus.place == "amqp://127.0.0.1:1/b"
        with listening(OrderPlaced):
            assert OrderPlaced(1).send().state == "accepted"  # nobody listens there: it waits for the relay
        assert (QueuedDelivery.objects.count(), OutboxMessage.objects.count()) == (0, 1)
        proclaim(bus.subject, first, 0)
        assert bus.place == "amqp://127.0.0.1:1/a"
        proclaim(bus.subject, DATABASE, 0)
        assert bus.place == "amqp://127.0.0.1:1/a"  # that is alive still

    def test_a_broker_that_this_process_does_not_know_is_not_followed(self, bus: ElectedBus) -> None:
        proclaim(bus.subject, brokers({"RABBITMQ_URL": "amqp://elsewhere/"}, PLAIN)[0], 0)
        assert bus.place == "database://"

    def test_a_thousand_messages_ask_once_what_is_elected(self, bus: ElectedBus) -> None:
        with CaptureQueriesContext(connection) as queries:
            for _ in range(1000):
                assert bus.current is bus.database
        asked = [query["sql"] for query in queries if "koan_core_election" in query["sql"]]
        assert len(asked) == 1

    def test_either_half_takes_a_message_back(self, bus: ElectedBus) -> None:
        with listening(OrderPlaced):
            waiting = OrderPlaced(1).send()
            proclaim(bus.subject, next(iter(bus.candidates.values())), 0)
            stored = OrderPlaced(2).send(delay=timedelta(hours=1))
            assert waiting.cancel()
            assert not QueuedDelivery.objects.exists()
            assert stored.cancel()
        assert not OutboxMessage.objects.exists()


CHECK = (
    "import django; django.setup(); from django.core.management import call_command; call_command('check', deploy=True)"
)


@contextmanager
def counting_listener() -> Iterator[tuple[int, list[object]]]:
    """A port, and the connections that were made to it."""
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    found.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], found


def test_check_and_a_sending_process_ask_no_broker(tmp_path: Path) -> None:
    with counting_listener() as (port, found):
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "KOAN_RABBITMQ_URL": f"amqp://127.0.0.1:{port}/",
            "KOAN_TEST_DIR": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-c", CHECK], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert found == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("serving")
def test_a_worker_elects_again_until_the_broker_is_live_and_loses_nothing_in_the_switch(
    vhost: Vhost, monkeypatch: Any
) -> None:
    with Proxy.before(vhost.url) as proxy:
        proxy.shut()
        url = proxy.url(vhost.url)
        bus = ElectedBus("main", BusOptions(), brokers({"KOAN_RABBITMQ_URL": url}, PLAIN))
        [name] = bus.candidates
        monkeypatch.setitem(registry._made, "main", bus)
        pauses: list[float] = []
        gate = threading.Event()

        def pause(seconds: float) -> bool:
            pauses.append(seconds)
            gate.wait(20)
            return elector.stopping.is_set()

        with listening(OrderPlaced, group="shop") as arrived:
            runner = BusRunner(ThreadPool(2))
            [elector] = runner.electors
            monkeypatch.setattr(elector, "pause", pause)
            runner.start()
            wait_until(lambda: pauses, 20, "the first round")
            assert elector.finding().status == "degraded"
            assert "elected database://" in elector.finding().message
            fact = next(each for each in facts.own() if each.subject == bus.subject)
            assert fact.selection == "database://"
            assert [each.name for each in fact.alternatives] == [name]
            assert "cannot be reached" in fact.alternatives[0].reason
            for number in range(10):
                OrderPlaced(number).send()
            proxy.open()
            gate.set()
            sent = 10
            while bus.place == "database://":
                OrderPlaced(sent).send()
                sent += 1
                time.sleep(0.005)  # a sender without a break has thousands to wait for on a busy machine
            for number in range(sent, sent + 10):
                assert OrderPlaced(number).send().state == "published"
            wait_until(lambda: len(arrived) >= sent + 10, 60, "every message")
            assert sorted(message.number for message, _ in arrived) == list(range(sent + 10))
            assert elector.finding().status == "healthy"
            assert [queue for queue in vhost.queues() if queue.endswith(".shop")] == ["koan.shop"]
            runner.drain()
            wait_until(lambda: not runner.is_busy, 20, "the end")
            runner.stop()
        facts.forget(bus.subject)
        bus.close()


@pytest.fixture
def electing(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ElectedBus, Proxy]]:
    """The bus ``main`` with the broker of the run as its candidate, and the way there, which is shut."""
    with Proxy.before(vhost.url) as proxy:
        proxy.shut()
        found = brokers({"KOAN_RABBITMQ_URL": proxy.url(vhost.url)}, PLAIN)
        bus = ElectedBus("main", BusOptions(partitions=4), found)
        monkeypatch.setitem(registry._made, "main", bus)
        yield bus, proxy
        facts.forget(bus.subject)
        bus.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.services("rabbitmq")
def test_the_depth_of_an_ordered_group_is_that_of_its_partitions_on_the_broker_and_in_the_database(
    electing: tuple[ElectedBus, Proxy],
) -> None:
    bus, proxy = electing
    with listening(StockMoved, group="stock"), listening(OrderPlaced, group="shop"):
        for number in range(6):
            assert StockMoved(f"sku-{number}", number).send().state == "accepted"  # in the database, in partitions
        depths = {depth.group: depth for depth in bus.depths()}
        assert (depths["stock"].waiting, depths["shop"].waiting) == (6, 0)
        proxy.open()
        [candidate] = bus.candidates.values()
        broker = bus.broker(candidate.name)
        with Connection(candidate.value) as connection:
            declare(connection.channel(), broker.topology())  # type: ignore[attr-defined]  # RabbitMQ's has one
        proclaim(bus.subject, candidate, 0)
        for number in range(5):
            assert StockMoved(f"sku-{number}", number).send().state == "published"
        assert StockMoved("sku-9", 9).send_to("stock").state == "published"
        assert OrderPlaced(1).send().state == "published"
        wait_until(lambda: sum(depth.waiting for depth in bus.depths()) == 13, 20, "the broker to count them")
        depths = {depth.group: depth for depth in bus.depths()}
        assert (depths["stock"].waiting, dict(depths["stock"].sections)) == (12, {"database": 6})
        assert (depths["shop"].waiting, dict(depths["shop"].sections)) == (1, {"database": 0})
        assert str(depths["stock"]) == "12 waiting, 0 consumers, 6 in database"
        proxy.shut()
        proxy.cut()
        stock = next(depth for depth in bus.depths() if depth.group == "stock")
        assert stock.waiting == 6  # what the database knows is told although the broker is away
        assert "cannot be reached" in stock.note
        assert f"main/stock: {stock.note}" in status().troubles


@pytest.mark.django_db(transaction=True)
@pytest.mark.services("rabbitmq")
@pytest.mark.usefixtures("serving")
def test_a_key_is_handled_in_order_on_both_halves_of_an_elected_bus_and_nothing_is_left_of_either(
    electing: tuple[ElectedBus, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, proxy = electing
    monkeypatch.setattr("koan_django.core.election.WAIT_SECONDS", 0.2)
    told: list[str] = []

    def receive(stage: Stage, **_: Any) -> None:
        told.append(f"{stage.label} {stage.state}")

    bus_state_changed.connect(receive)
    with listening(StockMoved, group="stock") as arrived:
        runner = BusRunner(ThreadPool(2))
        runner.start()
        sent: dict[str, list[int]] = {"database": [], "broker": []}
        number = 0
        for number in range(20):
            StockMoved(f"sku-{number % 4}", number).send()
            sent["database"].append(number)
        proxy.open()
        wait_until(lambda: bus.place != "database://", 30, "the election")
        for number in range(20, 60):
            StockMoved(f"sku-{number % 4}", number).send()
            sent["broker"].append(number)
        wait_until(lambda: len(arrived) >= 60, 30, "every message")
        assert [depth.waiting for depth in bus.depths()] == [0]
        label = bus.current.label
        runner.drain()
        wait_until(lambda: not runner.is_busy, 20, "the end")
        runner.stop()
    bus_state_changed.disconnect(receive)
    handled = [message.count for message, _ in arrived]
    for numbers in sent.values():
        for key in range(4):
            mine = [each for each in handled if each in set(numbers) and each % 4 == key]
            assert mine == sorted(mine)
    assert told[:3] == ["main registered", "main connected", "main live"]
    assert [each for each in told if each.startswith(f"{label} ")][:3] == [
        f"{label} elected",
        f"{label} connected",
        f"{label} live",
    ]
