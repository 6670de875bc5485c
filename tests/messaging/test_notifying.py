"""PostgreSQL wakes who waits: on commit, once for a transaction, never at the price of losing anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from koan_django.messaging import send_many
from koan_django.messaging.models import OutboxMessage, QueuedDelivery
from koan_django.messaging.outgoing import listening as listening_module
from koan_django.messaging.outgoing import notifying
from koan_django.messaging.outgoing.listening import Listener
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import Postgres
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

CHANNEL = notifying.channel_of("main")


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction may notify: what other tests have sent in this second does not matter."""
    monkeypatch.setattr(notifying, "MOST_PER_SECOND", 10_000)
    monkeypatch.setattr(notifying, "_allowance", notifying._Allowance())


def notifications(captured: CaptureQueriesContext) -> int:
    return sum("pg_notify" in each["sql"] for each in captured)


class TestSending:
    pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.usefixtures("unlimited")]

    @pytest.fixture(autouse=True)
    def group(self, use_bus: UseBus) -> Iterator[None]:
        use_bus("database://")
        with listening(OrderPlaced, group="billing"):
            yield

    @property
    def one(self) -> int:
        """What a transaction that sends notifies."""
        return int(connection.vendor == "postgresql")

    def test_a_transaction_notifies_once_however_much_it_sends(self) -> None:
        with CaptureQueriesContext(connection) as captured:
            with transaction.atomic():
                OrderPlaced(1).send()
                with transaction.atomic():
                    OrderPlaced(2).send()
                send_many([OrderPlaced(number) for number in range(50)])
            with transaction.atomic():
                OrderPlaced(3).send()
        assert notifications(captured) == 2 * self.one

    def test_what_a_rollback_takes_back_is_told_again(self) -> None:
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                OrderPlaced(1).send()
                raise ZeroDivisionError
            OrderPlaced(2).send()
            OrderPlaced(3).send()
        assert notifications(captured) == 2 * self.one

    def test_what_is_due_later_and_a_bus_that_must_not_notify_tell_nobody(self, use_bus: UseBus) -> None:
        with CaptureQueriesContext(connection) as captured:
            OrderPlaced(1).send(delay=timedelta(minutes=1))
            use_bus("database://", NOTIFY=False)
            OrderPlaced(2).send()
        assert notifications(captured) == 0
        assert QueuedDelivery.objects.count() == 2

    def test_a_sender_that_is_busy_notifies_so_many_times_a_second_and_no_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notifying, "MOST_PER_SECOND", 3)
        monkeypatch.setattr(time, "monotonic", lambda: 1000.5)
        with CaptureQueriesContext(connection) as captured:
            for number in range(10):
                OrderPlaced(number).send()
        assert notifications(captured) == 3 * self.one


class TestWaking:
    """Where the next poll is half a minute away."""

    pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.usefixtures("unlimited")]

    @pytest.fixture(autouse=True)
    def only_on_postgresql(self) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("no other database notifies")

    @contextmanager
    def woken(self) -> Iterator[Any]:
        with running() as runner:
            wakers = [each._waker for each in (*runner.consumers, *runner.relays) if hasattr(each, "_waker")]
            assert wakers
            wait_until(lambda: all(waker.is_notified for waker in wakers), 30, "all to listen")
            yield runner

    def test_a_consumer_handles_what_is_committed_without_waiting_for_its_poll(self, use_bus: UseBus) -> None:
        use_bus("database://", POLL_INTERVAL=60)
        with listening(OrderPlaced, group="billing") as arrived, self.woken():
            for number in range(3):
                OrderPlaced(number).send()
                wait_until(lambda number=number: len(arrived) > number, 20, "the message to arrive")

    def test_a_relay_publishes_what_is_committed_without_waiting_for_its_poll(
        self, use_bus: UseBus, vhost: Vhost
    ) -> None:
        use_bus(vhost.url, POLL_INTERVAL=60)
        with listening(OrderPlaced, group="billing") as arrived, self.woken() as runner:
            wait_until(lambda: runner.relays[0].finding().message == "publishing", 20, "the relay to hold its lease")
            for number in range(3):
                with transaction.atomic():
                    OrderPlaced(number).send()
                wait_until(lambda number=number: len(arrived) > number, 20, "the message to arrive")
        assert not OutboxMessage.objects.exists()

    def test_an_idle_consumer_looks_once_a_second_and_not_ten_times(self, use_bus: UseBus) -> None:
        bus = use_bus("database://", POLL_INTERVAL=0.01)
        with listening(OrderPlaced, group="billing"), self.woken() as runner:
            (consumer,) = runner.consumers
            assert consumer.bus is bus
            wait_until(lambda: consumer._waker._seconds() > 0.5, 30, "the consumer to come to rest")
            looks: list[float] = []
            look = consumer.waiting_groups
            consumer.waiting_groups = lambda: looks.append(time.monotonic()) or look()
            time.sleep(4)
        assert 1 <= len(looks) <= 8

    def test_a_listener_that_was_cut_off_is_back_and_nothing_is_lost_meanwhile(self, use_bus: UseBus) -> None:
        use_bus("database://", POLL_INTERVAL=0.05)
        with listening(OrderPlaced, group="billing") as arrived, self.woken() as runner:
            waker = runner.consumers[0]._waker
            for number in range(2):
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                wait_until(lambda: not waker.is_notified, 20, "the loss to be noticed")
                OrderPlaced(number).send()
                wait_until(lambda number=number: len(arrived) > number, 30, "the message to be found by a poll")
                wait_until(lambda: waker.is_notified, 30, "the listener to be back")


class TestListener:
    @staticmethod
    @contextmanager
    def listener(dsn: str, wake: Callable[[], None]) -> Iterator[Listener]:
        made = Listener(lambda: {"conninfo": dsn})
        made.add(CHANNEL, wake)
        made.start()
        try:
            yield made
        finally:
            made.stop()
            made.join(20)

    @pytest.mark.services("postgres")
    def test_it_outlives_a_restart_of_the_server_and_wakes_for_what_it_may_have_missed(
        self, own_postgres: Postgres
    ) -> None:
        woken: list[float] = []
        with self.listener(own_postgres.dsn, lambda: woken.append(time.monotonic())) as listener:
            wait_until(lambda: listener.hears(CHANNEL), 30, "the listener to listen")
            own_postgres.restart()
            wait_until(lambda: len(woken) >= 3, 60, "to be woken at the loss and at the return")
            wait_until(lambda: listener.hears(CHANNEL), 60, "the listener to listen again")
            before = len(woken)
            with psycopg.connect(own_postgres.dsn, autocommit=True) as other:
                other.execute("SELECT pg_notify(%s, '')", [CHANNEL])
            wait_until(lambda: len(woken) > before, 30, "the notification")

    @pytest.mark.services("postgres")
    def test_a_thousand_who_wait_in_one_process_share_one_connection_and_all_are_woken(
        self, postgres_database: str
    ) -> None:
        woken: set[int] = set()
        with self.listener(postgres_database, lambda: None) as listener, psycopg.connect(postgres_database) as other:
            other.autocommit = True
            channels = [notifying.channel_of(f"bus-{number % 50}") for number in range(1000)]
            for number, channel in enumerate(channels):
                listener.add(channel, lambda number=number: woken.add(number))
            wait_until(lambda: all(map(listener.hears, channels)), 30, "all channels to be listened to")
            count = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            wait_until(lambda: other.execute(count).fetchone() == (1,), 30, "one connection to be left")
            woken.clear()
            for channel in set(channels):
                other.execute("SELECT pg_notify(%s, '')", [channel])
            wait_until(lambda: len(woken) == 1000, 30, "all to be woken")

    @pytest.mark.services("postgres")
    def test_without_a_free_connection_it_says_so_and_listens_once_there_is_one(
        self, postgres: Postgres, postgres_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening_module, "RETRY_SECONDS", 0.2)
        name = postgres_database.rpartition("/")[2]
        with psycopg.connect(postgres.dsn, autocommit=True) as admin:
            admin.execute(f'CREATE ROLE "{name}" LOGIN CONNECTION LIMIT 0')
            try:
                with self.listener(f"{postgres_database}?user={name}", lambda: None) as listener:
                    wait_until(lambda: "too many connections" in listener.error, 30, "the listener to say so")
                    assert not listener.hears(CHANNEL)
                    admin.execute(f'ALTER ROLE "{name}" CONNECTION LIMIT 5')
                    wait_until(lambda: listener.hears(CHANNEL), 30, "the listener to listen")
            finally:
                admin.execute(f'DROP ROLE "{name}"')

    @pytest.mark.services("pgbouncer")
    def test_behind_a_pooler_it_says_so_and_hears_nothing(
        self, pgbouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening_module, "ECHO_SECONDS", 0.5)
        with pgbouncer.database() as dsn, self.listener(dsn, lambda: None) as listener:
            wait_until(lambda: listener.error, 30, "the silence to be noticed")
            assert "do not arrive" in listener.error
            assert not listener.hears(CHANNEL)
