"""What a bus declares is what it does, and what it does not declare is refused at start."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks

from koan_django.core import tenant
from koan_django.messaging import send_many
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Capabilities
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.exceptions import CapabilityError
from koan_django.messaging.models import MessageEvent, OutboxMessage
from koan_django.messaging.routing import matches
from koan_django.messaging.worker.runner import BusRunner
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, ThreadPool, listening
from tests.services.fixtures import StartProcess
from tests.services.proxy import Proxy

from .conftest import Rig, bus_settings

pytestmark = pytest.mark.database

CAPABILITIES = [field.name for field in fields(Capabilities)]
PATTERNS = ["order.placed", "order.*", "*.placed", "#", "order.#", "#.placed", "*", "*.*.*", "stock.#", "#.order.#"]


def numbers(arrived: list[Any]) -> list[int]:
    return [message.number for message, _ in arrived]


def declare(rig: Rig) -> None:
    """Have the groups known to a broker."""
    if isinstance(rig.bus, BrokerBus):
        with rig.running():
            pass


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_a_bus_cannot_do_is_refused_at_start_and_what_it_can_is_not(rig: Rig, capability: str) -> None:
    offered = getattr(rig.bus.capabilities, capability)
    with override_koan(MESSAGING={"BUSES": {"main": rig.settings | {"REQUIRE": [capability]}}}):
        found = [each for each in run_checks() if each.id == "koan_messaging.E009"]
        if offered:
            assert found == []
            BusRunner(ThreadPool(1))
        else:
            assert f"'main' for {capability!r}, which it does not offer" in found[0].msg
            with pytest.raises(CapabilityError, match=rf"REQUIRE.*{capability}"):
                BusRunner(ThreadPool(1))
        registry.reset()


@pytest.mark.parametrize(
    ("capability", "pattern"), [("patterns", "order.*"), ("copies", "order.placed")], ids=["patterns", "copies"]
)
def test_a_handler_that_needs_what_its_bus_lacks_is_named_at_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capability: str, pattern: str
) -> None:
    poorer = replace(rig.bus.capabilities, **{capability: False})
    monkeypatch.setattr(type(rig.bus), "capabilities", poorer)
    with listening(OrderPlaced, group="billing"), listening(pattern, group="audit"):
        (found,) = [each for each in run_checks() if each.id == "koan_messaging.E009"]
        assert "receive_" in found.msg
        assert found.hint
        with pytest.raises(CapabilityError, match=f"receive_.*{capability}"):
            BusRunner(ThreadPool(1))


def test_the_urgent_goes_first_where_priorities_are_declared(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived:
        declare(rig)
        for number in range(4):
            OrderPlaced(number).send()
        OrderPlaced(9).send(priority=9)
        with rig.running(size=1):
            rig.until(lambda: len(arrived) == 5, "all of them")
    assert sorted(numbers(arrived)) == [0, 1, 2, 3, 9]
    if rig.bus.capabilities.priorities:
        assert numbers(arrived)[0] == 9


def test_a_pattern_means_the_same_on_every_bus(rig: Rig) -> None:
    sent = {"order.placed": OrderPlaced(1), "order.paid": OrderPaid(2), "stock.moved": StockMoved("a", 3)}
    expected = {pattern: sorted(alias for alias in sent if matches(pattern, alias)) for pattern in PATTERNS}
    with ExitStack() as stack:
        arrived = {
            pattern: stack.enter_context(listening(pattern, group=f"audit-{number}"))
            for number, pattern in enumerate(PATTERNS)
        }
        stack.enter_context(rig.running())
        send_many(sent.values())
        total = sum(map(len, expected.values()))
        rig.until(lambda: sum(map(len, arrived.values())) >= total, "those that match", 30)
    found = {pattern: sorted(envelope.alias for envelope, _ in each) for pattern, each in arrived.items()}
    assert found == expected


def test_consumers_of_one_group_compete_and_nothing_is_handled_twice(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived:
        declare(rig)
        send_many([OrderPlaced(number) for number in range(60)])
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(rig.running())
            rig.until(lambda: MessageEvent.objects.filter(kind="handled").count() == 60, "all of them")
    assert Counter(numbers(arrived)) == dict.fromkeys(range(60), 1)
    assert not MessageEvent.objects.filter(kind="duplicate").exists()


def test_a_message_can_be_sent_on_another_bus(rig: Rig) -> None:
    buses = {"main": rig.settings, "side": {"URL": "memory://", "POLL_INTERVAL": 0.01}}
    with (
        override_koan(MESSAGING={"BUSES": buses}),
        listening(OrderPlaced, group="billing") as main,
        listening(OrderPlaced, group="billing", bus="side") as side,
        rig.running(),
    ):
        OrderPlaced(1).send(bus="side")
        OrderPlaced(2).send()
        rig.until(lambda: main and side, "both")
    registry.reset()
    assert (numbers(main), numbers(side)) == ([2], [1])


def test_the_tenant_travels_in_a_header(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing") as arrived, rig.running():
        with tenant.use("acme"):
            OrderPlaced(1).send()
        OrderPlaced(2).send()
        rig.until(lambda: len(arrived) == 2, "both")
    contexts = {message.number: context for message, context in arrived}
    assert (contexts[1].tenant, contexts[1].headers["koan-tenant"]) == ("acme", "acme")
    assert contexts[2].tenant == ""


def test_depths_tell_what_waits(rig: Rig) -> None:
    with listening(OrderPlaced, group="billing"):
        declare(rig)
        send_many([OrderPlaced(number) for number in range(3)])
        rig.until(lambda: rig.bus.depths()[0].waiting == 3, "the bus to say so")
        [depth] = rig.bus.depths()
        assert depth.group == "billing"
        assert depth.in_progress in (0, -1)  # a broker does not say who has what
        with rig.running():
            rig.until(lambda: MessageEvent.objects.filter(kind="handled").count() == 3, "all of them")


def test_what_a_killed_worker_held_is_handled_by_another(rig: Rig, process: StartProcess) -> None:
    if not rig.bus.capabilities.shared:
        assert rig.kind == "memory"  # no other process has any of its messages
        return
    with listening(OrderPlaced, group="billing") as arrived:
        declare(rig)
        send_many([OrderPlaced(number) for number in range(5)])
        victim = process(
            "victim",
            [sys.executable, "-m", "tests.contracts.messaging.victim", json.dumps(rig.settings)],
            env={
                "DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings",
                "KOAN_CHILD_DATABASE": str(settings.DATABASES["default"]["NAME"]),
                **{name: value for name, value in os.environ.items() if name == "KOAN_TEST_DATABASE_URL"},
            },
        )
        rig.until(lambda: "holding" in victim.tail(), "the victim to hold messages", 60)
        victim.kill()
        with rig.running():
            rig.until(lambda: len(set(numbers(arrived))) == 5, "all of them", 40)
    assert sorted(numbers(arrived)) == list(range(5))


@pytest.fixture(
    params=[
        pytest.param("amqp", marks=pytest.mark.services("rabbitmq")),
        pytest.param("redis", marks=pytest.mark.services("redis")),
    ]
)
def cut(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[tuple[Rig, Proxy]]:
    """A bus on a broker, behind a proxy."""
    url = request.getfixturevalue("vhost" if request.param == "amqp" else "redis").url
    with Proxy.before(url) as proxy:
        bus = bus_settings(proxy.url(url)) | {"CONFIRM_TIMEOUT": 2}
        with override_koan(MESSAGING={"BUSES": {"main": bus}}):
            yield Rig(request.param, bus), proxy
            registry.reset()


def test_nothing_is_lost_while_the_broker_is_cut_off_and_returns(cut: tuple[Rig, Proxy]) -> None:
    rig, proxy = cut
    with listening(OrderPlaced, lambda message: time.sleep(0.02), group="billing") as arrived, rig.running():
        send_many([OrderPlaced(number) for number in range(20)])
        proxy.shut()
        proxy.cut()
        send_many([OrderPlaced(number) for number in range(20, 40)])  # to the outbox
        assert OutboxMessage.objects.filter(state="pending").exists()
        proxy.open()
        rig.until(lambda: set(numbers(arrived)) == set(range(40)), "all of them", 60)
        rig.until(lambda: not OutboxMessage.objects.exists(), "the outbox to be empty", 30)
