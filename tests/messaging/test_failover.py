"""One bus on two brokers: one is killed while messages are sent and handled, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from koan_django.core import facts
from koan_django.core.doctor import Finding
from koan_django.messaging import send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.failover import FailoverBus
from koan_django.messaging.conf import BusOptions
from koan_django.messaging.examinations import buses
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage
from koan_django.messaging.worker.runner import BusRunner
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_amqp_consumer import effect, effects
from tests.messaging.wire import wired
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon."""
    for module in ("handling.consumer", "buses.amqp.publisher"):
        monkeypatch.setattr(f"koan_django.messaging.{module}.MIN_BACKOFF_SECONDS", 0.05)
        monkeypatch.setattr(f"koan_django.messaging.{module}.MAX_BACKOFF_SECONDS", 0.3)
    monkeypatch.setattr("koan_django.messaging.worker.standby.PERIOD_SECONDS", 0.2)


@pytest.fixture
def second(vhost: Vhost) -> Iterator[Proxy]:
    """Stands before the second broker, which is that of the run."""
    with Proxy.before(vhost.url) as made:
        yield made


def fact() -> facts.Fact:
    return next(each for each in facts.own() if each.subject == "messaging.bus.main")


def finding(runner: BusRunner) -> Any:
    return runner.standbys[0].finding()


def is_healthy(runner: BusRunner) -> bool:
    every = [*(each.finding() for each in runner.consumers), finding(runner)]
    return all(each.status == "healthy" for each in every)


def test_the_first_broker_is_killed_while_messages_are_sent_and_handled_and_is_used_again(
    use_bus: UseBus, own_rabbitmq: RabbitMQ, vhost: Vhost
) -> None:
    with own_rabbitmq.vhost() as first:
        bus = use_bus(first.url, FAILOVER=[vhost.url])
        assert isinstance(bus, FailoverBus)
        sent = 0

        def send(count: int) -> list[str]:
            nonlocal sent
            receipts = send_many([OrderPlaced(number) for number in range(sent, sent + count)])
            sent += count
            return [receipt.state for receipt in receipts]

        with listening(OrderPlaced, effect, group="billing"), running() as runner:
            wait_until(lambda: is_healthy(runner), 30, "both brokers to be consumed")
            assert set(send(50)) == {"published"}
            assert bus.current.label == "main.primary"
            killing = threading.Timer(0.3, own_rabbitmq.kill)
            killing.start()
            while killing.is_alive():
                send(5)
            try:
                wait_until(lambda: send(5) == ["published"] * 5, 30, "the second broker to take messages")
                assert bus.current.label == "main.failover-1"
                assert fact().selection.startswith("main.failover-1 amqp://127.0.0.1:")
                assert "main.primary failed" in fact().reason
                assert "guest" not in str(fact())
                wait_until(lambda: finding(runner).status == "degraded", 30, "health to say so")
                assert "publishing to main.failover-1" in finding(runner).message
                assert "not consumed: main.primary" in finding(runner).message
                assert {each.finding().status for each in runner.consumers} == {"healthy", "degraded"}
                assert set(send(50)) == {"published"}
                before = sent
                wait_until(lambda: set(range(before - 50, before)) <= effects(), 30, "those to be handled meanwhile")
            finally:
                own_rabbitmq.revive()
            wait_until(lambda: finding(runner).status == "healthy", 60, "the return to the first broker")
            assert fact().reason == "main.primary is back"
            assert set(send(50)) == {"published"}
            assert bus.current.label == "main.primary"
            wait_until(lambda: effects() == set(range(sent)), 60, "every message to be handled")
        with wired(first.url) as one, wired(vhost.url) as two:
            queue = bus.brokers[0].names.group("billing")  # type: ignore[attr-defined]  # RabbitMQ's has names
            assert (one.depth(queue), two.depth(queue)) == (0, 0)
    assert not DeadLetter.objects.exists()
    assert not OutboxMessage.objects.exists()
    assert MessageEvent.objects.filter(kind="handled").count() == sent  # each is written with the effect


def test_with_every_broker_down_messages_wait_in_the_outbox_and_go_to_the_one_that_is_back_first(
    use_bus: UseBus, proxy: Proxy, through: str, second: Proxy, vhost: Vhost, rabbitmq: RabbitMQ
) -> None:
    with rabbitmq.vhost() as other:
        bus = use_bus(through, FAILOVER=[second.url(other.url)])
        proxy.shut()
        second.shut()
        with listening(OrderPlaced, effect, group="billing"), running(consuming=False) as runner:
            receipts = [OrderPlaced(number).send() for number in range(20)]
            assert {receipt.state for receipt in receipts} == {"accepted"}
            wait_until(lambda: finding(runner).status == "unhealthy", 30, "health to say so")
            assert finding(runner).message == "no broker is consumed"
            second.open()
            wait_until(lambda: effects() == set(range(20)), 60, "what waited")
            assert bus.current.label == "main.failover-1"
    assert not OutboxMessage.objects.exists()


def test_a_message_that_nobody_receives_on_the_second_broker_yet_waits_for_one_who_knows(
    use_bus: UseBus, proxy: Proxy, through: str, second: Proxy, rabbitmq: RabbitMQ
) -> None:
    with rabbitmq.vhost() as other:
        use_bus(through, FAILOVER=[second.url(other.url)])
        proxy.shut()
        assert OrderPlaced(1).send().state == "accepted"
        with listening(OrderPlaced, effect, group="billing"), running(consuming=False):
            wait_until(lambda: effects() == {1}, 60, "the message, once a worker has declared its queue")


def test_the_doctor_tries_each_broker(use_bus: UseBus, through: str, proxy: Proxy, vhost: Vhost) -> None:
    use_bus(vhost.url, FAILOVER=[through])
    proxy.shut()
    found: dict[str, Finding] = {each.name: each for each in buses()}
    assert found["bus.main.primary"].status == "healthy"
    assert found["bus.main.failover-1"].status == "unhealthy"


@pytest.mark.parametrize(
    ("url", "failover", "text"),
    [
        ("database://", ("amqp://b/",), "lists brokers beside a URL that is one"),
        ("amqp://a/", ("memory://",), "each begins with amqp:// or amqps://"),
        (None, ("amqp://b/",), "lists brokers beside a URL that is one"),
        ("amqp://u:hunter2@a/", ("amqp://b/", "amqp://u:hunter2@a/"), "lists a broker twice"),
    ],
    ids=["database", "memory", "elected", "twice"],
)
def test_a_list_that_makes_no_sense_is_refused_without_its_passwords(url: Any, failover: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        BusOptions(url=url, failover=failover)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(BusOptions(url="amqp://a/", failover=("amqp://u:hunter2@b/",)))


def test_each_broker_of_the_list_has_its_management_api_or_none_has(use_bus: UseBus) -> None:
    with pytest.raises(ValueError, match="FAILOVER_MANAGEMENT has one place for each broker of FAILOVER"):
        BusOptions(url="amqp://a/", failover=("amqp://b/", "amqp://c/"), failover_management=("http://b",))
    with pytest.raises(ValueError, match="must begin with http"):
        BusOptions(url="amqp://a/", failover=("amqp://b/",), failover_management=("ftp://b",))
    places = use_bus("amqp://a/", MANAGEMENT="", FAILOVER=["amqp://b/"], FAILOVER_MANAGEMENT=["https://u:hunter2@b"])
    assert [broker.options.management for broker in places.brokers] == ["", "https://u:hunter2@b"]
    assert "hunter2" not in repr(places.options)


def test_a_bus_without_a_list_is_one_broker(use_bus: UseBus, vhost: Vhost) -> None:
    assert not isinstance(use_bus(vhost.url), FailoverBus)
    assert registry.get("main").redundant is False
