"""How far each bus has come, as signals, facts, the doctor and the page of buses tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from koan_django.core import facts, process
from koan_django.core.facts import Fact
from koan_django.messaging import examinations, lifecycle
from koan_django.messaging.lifecycle import Stage
from koan_django.messaging.signals import bus_state_changed
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon; and have one name, whether requests are served or not."""
    monkeypatch.setattr(process, "_role", "web")
    for module in ("handling.consumer", "buses.amqp.publisher"):
        monkeypatch.setattr(f"koan_django.messaging.{module}.MAX_BACKOFF_SECONDS", 0.3)


@pytest.fixture
def stages() -> Iterator[list[Stage]]:
    """What the signal has told, in order."""
    told: list[Stage] = []

    def receive(stage: Stage, **_: Any) -> None:
        told.append(stage)

    bus_state_changed.connect(receive)
    yield told
    bus_state_changed.disconnect(receive)
    lifecycle._stages.clear()


def states(stages: list[Stage], deed: str = "consuming") -> list[str]:
    return [stage.state for stage in stages if stage.deed == deed]


def told(subject: str) -> Fact:
    return next(each for each in facts.own() if each.subject == subject)


def doctor() -> dict[str, tuple[str, str]]:
    return {each.name: (each.status, each.message) for each in examinations.stages()}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("database", marks=pytest.mark.database),
        pytest.param("amqp", marks=pytest.mark.services("rabbitmq")),
        pytest.param("redis", marks=pytest.mark.services("redis")),
    ],
)
def test_a_bus_of_a_worker_is_registered_then_connected_then_live(
    use_bus: UseBus, request: pytest.FixtureRequest, kind: str, stages: list[Stage]
) -> None:
    urls = {"amqp": ("vhost", "url"), "redis": ("redis", "url")}
    url = getattr(request.getfixturevalue(urls[kind][0]), urls[kind][1]) if kind in urls else "database://"
    bus = use_bus(url)
    with listening(OrderPlaced, group="billing"), running():
        wait_until(lambda: "live" in states(stages), 10, "the signal")
        assert states(stages) == ["registered", "connected", "live"]
        assert {(stage.bus, stage.label, stage.place) for stage in stages} == {("main", "main", bus.place)}
        live = told("messaging.consuming.main")
        assert (live.selection, live.reason[:6]) == ("live", "since ")
        chosen = told("messaging.bus.main")
        assert (chosen.selection, chosen.reason) == (bus.place, "its URL, from KOAN")
        facts.publish()
        assert doctor()["stage.main"][0] == "healthy"
    assert not any(each.subject == "messaging.consuming.main" for each in facts.own())


@pytest.mark.services("rabbitmq")
def test_a_bus_whose_broker_is_away_waits_since_then_and_remembers_why_when_it_is_live(
    use_bus: UseBus, proxy: Proxy, through: str, stages: list[Stage], client: Any
) -> None:
    use_bus(through)
    proxy.shut()
    client.force_login(User.objects.create_superuser("boss"))
    with listening(OrderPlaced, group="billing"), running(consuming=False):
        wait_until(lambda: "waiting" in states(stages), 30, "the consumer to wait")
        OrderPlaced(1).send()
        wait_until(lambda: "waiting" in states(stages, "publishing"), 30, "the publisher to wait")
        waiting = told("messaging.consuming.main")
        assert waiting.selection == "waiting"
        assert "cannot be reached" in waiting.reason
        assert "guest" not in str(facts.own())
        facts.publish()
        status, text = doctor()["stage.main"]
        assert status == "unhealthy"
        assert "waiting since" in text
        assert "cannot be reached" in text
        assert doctor()["stage.main.publishing"][0] == "degraded"
        page = client.get(reverse("admin:koan_messaging_configuredbus_changelist")).content.decode()
        assert "messaging.consuming.main" in page
        assert "waiting" in page
        served = json.loads(client.get("/koan/facts?format=json").content)
        assert "messaging.consuming.main" in str(served)
        proxy.open()
        wait_until(lambda: states(stages)[-1] == "live", 30, "the bus to be live")
        assert states(stages)[0] == "registered"
        assert states(stages)[-2:] == ["connected", "live"]
        assert "it went wrong last" in told("messaging.consuming.main").reason
        wait_until(lambda: OrderPlaced(2).send().state == "published", 30, "the broker to confirm a message")
        assert states(stages, "publishing") == ["waiting", "live"]
        facts.publish()
        assert set(doctor()) == {"stage.main"}
        assert doctor()["stage.main"][0] == "healthy", doctor()
        proxy.shut()
        proxy.cut()
        wait_until(lambda: states(stages)[-1] == "waiting", 30, "the bus to be lost again")


@pytest.mark.services("rabbitmq")
def test_a_process_that_only_sends_is_live_once_the_broker_has_confirmed_and_says_it_once(
    use_bus: UseBus, vhost: Vhost, stages: list[Stage]
) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"):
        with running():
            pass
        stages.clear()
        for number in range(3):
            assert OrderPlaced(number).send().state == "published"
        assert states(stages, "publishing") == ["live"]
        assert told("messaging.publishing.main").selection == "live"


def test_a_receiver_that_fails_keeps_no_bus_from_being_live(use_bus: UseBus, stages: list[Stage]) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("not today")

    bus_state_changed.connect(fail)
    try:
        use_bus("database://")
        with listening(OrderPlaced, group="billing") as arrived, running():
            OrderPlaced(1).send()
            wait_until(lambda: arrived, 20, "the message")
    finally:
        bus_state_changed.disconnect(fail)


def test_a_bus_that_no_worker_consumes_is_named_by_the_doctor(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        facts.publish()
        status, text = doctor()["stage.main"]
    assert (status, text) == ("degraded", "no process consumes it")
