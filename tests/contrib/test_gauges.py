"""Gauges: what the apps say of now, as Prometheus scrapes it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from prometheus_client import CollectorRegistry, generate_latest

from koan_django.contrib.prometheus.gauges import Gauges
from koan_django.core import gauges
from koan_django.core.gauges import Reading
from koan_django.messaging.control import pausing
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.models import DeadLetter, OutboxMessage
from tests.messaging.conftest import UseBus, use_bus
from tests.messaging.shop import OrderPlaced, listening

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
__all__ = ["use_bus"]


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Gauges())
    return made


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sources of this test alone."""
    monkeypatch.setattr(gauges, "_sources", gauges.Registry("source of gauges"))
    return gauges.source


@pytest.mark.django_db
def test_what_waits_and_what_needs_attention_is_in_a_scrape(use_bus: UseBus, registry: CollectorRegistry) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing", name="shop.bill"):
        Tally("main").flush()
        pausing.pause("shop.bill")
        for number in range(3):
            OrderPlaced(number).send()
        OutboxMessage.objects.create(bus="main", message_id="1", alias="a", routing_key="a.p", body=b"", lane=1)
        DeadLetter.objects.create(
            bus="main", message_id="2", alias="a", routing_key="a.p", body=b"", reason="exhausted", fingerprint="f"
        )
        text = generate_latest(registry).decode()
    assert 'koan_messaging_bus_up{bus="main"} 1.0' in text
    assert 'koan_messaging_waiting{bus="main",group="billing"} 3.0' in text
    assert 'koan_messaging_outbox_pending{bus="main"} 1.0' in text
    assert 'koan_messaging_handler_held{bus="main",group="billing",handler="shop.bill"} 1.0' in text
    assert "koan_messaging_dead_letters 1.0" in text
    assert re.search(r'koan_messaging_outbox_lag_seconds{bus="main"} [\d.]+', text)
    assert "koan_messaging_consumers" not in text  # the database does not know


@pytest.mark.django_db
def test_every_gauge_is_in_the_reference(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        Tally("main").flush()
        found = {reading.name for reading in gauges.readings()}
    described = set(re.findall(r"^\| `(koan_\w+)` \| .* \| .* \|$", REFERENCE.read_text(), re.MULTILINE))
    assert found
    assert not found - described


def test_a_source_that_fails_hides_no_other(sources: Any, registry: CollectorRegistry, caplog: Any) -> None:
    @sources("broken")
    def broken() -> Iterator[Reading]:
        yield Reading("koan_half", "told before it fails", 1)
        raise ConnectionError("amqp://user:secret@host/")

    @sources("sound")
    def sound() -> list[Reading]:
        return [Reading("koan_sound", "a number", 2, {"of": 'a "quoted" name'})]

    text = generate_latest(registry).decode()
    assert 'koan_sound{of="a \\"quoted\\" name"} 2.0' in text
    assert "koan_half" not in text
    assert "are missing" in caplog.text
    assert "user:secret" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_scrape_leaves_no_connection_open_in_its_thread(use_bus: UseBus, registry: CollectorRegistry) -> None:
    use_bus("database://")
    left: list[Any] = []

    def scrape() -> None:
        generate_latest(registry)
        left.extend(each for each in connections.all(initialized_only=True) if each.connection is not None)

    thread = threading.Thread(target=scrape)
    thread.start()
    thread.join(30)
    assert not left


def test_registering_asks_nobody(sources: Any) -> None:
    @sources("shop")
    def never() -> list[Reading]:
        raise AssertionError("asked while the project starts")

    CollectorRegistry().register(Gauges())
