"""The Topology page: what differs on a real broker, and a button for what is missing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from koan_django.core.audit.models import AuditEvent
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, listening
from tests.services import free_port
from tests.services.rabbitmq import Vhost

pytestmark = pytest.mark.django_db(transaction=True)


def client_of(*codenames: str) -> Client:
    user = User.objects.create_user("ann", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def address() -> str:
    return reverse("admin:koan_messaging_topology_changelist")


def text_of(answer: Any) -> str:
    return answer.content.decode()


def test_the_page_shows_what_is_missing_and_makes_it(use_bus: UseBus, vhost: Vhost) -> None:
    bus = use_bus(vhost.url, MANAGEMENT=vhost.broker.management_url)
    client = client_of("view_topology", "apply_topology")
    with listening(OrderPlaced, group="billing"):
        before = text_of(client.get(address()))
        assert bus.names.group("billing") in before
        assert "that are missing" in before
        assert client.post(address(), {"bus": "main"}).status_code == 302
        after = text_of(client.get(address()))
    assert "All is as it is wanted." in after
    assert bus.names.group("billing") in vhost.queues()
    event = AuditEvent.objects.get(action="admin.apply_topology")
    assert event.actor == "ann"
    assert bus.names.group("billing") in event.data["made"]


def test_who_may_only_look_has_no_button_and_makes_nothing(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url, MANAGEMENT=vhost.broker.management_url)
    client = client_of("view_topology")
    assert "<button" not in text_of(client.get(address())).partition("koan-topology")[2]
    assert client.post(address(), {"bus": "main"}).status_code == 403
    assert vhost.queues() == {}


def test_a_broker_that_does_not_tell_is_unknown_and_costs_no_long_wait(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url, MANAGEMENT=f"http://guest:swordfish-hunter2@127.0.0.1:{free_port()}")
    began = time.monotonic()
    text = text_of(client_of("view_topology").get(address()))
    assert time.monotonic() - began < 30
    assert "koan-unknown" in text
    assert "All is as it is wanted" not in text
    assert "swordfish" not in text


def test_without_a_bus_on_rabbitmq_the_page_says_so(use_bus: UseBus) -> None:
    use_bus("database://")
    assert "No bus is on RabbitMQ." in text_of(client_of("view_topology").get(address()))
