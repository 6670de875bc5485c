"""Azure Service Bus, without the service.

What leads there is kombu's transport with Azure's own SDK, up to the connection. What the bus does with messages runs
over another of kombu's transports, the one in memory.
"""

from __future__ import annotations

from typing import Any

import pytest
from kombu.transport.azureservicebus import Transport

from koan_django.core import PermanentError
from koan_django.messaging import UnroutableError
from koan_django.messaging.buses.azure import AzureBus
from koan_django.messaging.buses.azure.link import TRANSPORT_OPTIONS, Link
from koan_django.messaging.exceptions import BusUnavailableError
from koan_django.messaging.models import DeadLetter, OutboxMessage
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.services.waiting import free_port, wait_until

#: kombu wants the namespace to end in .net; the path is cut off by the SDK, so nobody outside is asked.
NOWHERE = "azureservicebus://policy:a/secret@127.0.0.1:{port}/x.net"


@pytest.fixture
def bus(use_bus: UseBus) -> AzureBus:
    made = use_bus(NOWHERE.format(port=free_port()))
    assert isinstance(made, AzureBus)
    return made


@pytest.fixture
def in_memory(bus: AzureBus, monkeypatch: pytest.MonkeyPatch) -> AzureBus:
    """The same code, with kombu's queues in memory where Azure's would be."""
    monkeypatch.setattr(bus, "link", lambda: Link("memory://", bus.options.prefix))
    bus._link = bus.link()
    return bus


def test_kombu_finds_policy_key_and_namespace_in_the_url() -> None:
    assert Transport.parse_uri("azureservicebus://policy:a/b=@shop") == ("shop.servicebus.windows.net", "policy:a/b=")


def test_kombu_knows_the_options_that_are_given() -> None:
    from kombu.transport.azureservicebus import Channel

    assert all(hasattr(Channel, name) for name in TRANSPORT_OPTIONS)


def test_what_holds_on_it_is_said(bus: AzureBus) -> None:
    has = bus.capabilities
    assert (has.transactional, has.durable, has.shared, has.ordered, has.priorities) == (
        False,
        True,
        True,
        False,
        False,
    )
    assert (has.copies, has.patterns) == (True, True)
    assert "secret" not in bus.place


@pytest.mark.django_db(transaction=True)
def test_nobody_there_is_a_clear_error_and_the_message_waits_in_the_outbox(bus: AzureBus) -> None:
    with listening(OrderPlaced, group="billing"):
        with pytest.raises(BusUnavailableError, match="Azure Service Bus does not answer") as caught:
            bus.probe()
        assert "a/secret" not in str(caught.value)
        assert OrderPlaced(1).send().state == "accepted"
    (row,) = OutboxMessage.objects.all()
    assert "does not answer" in row.last_error


@pytest.mark.parametrize("url", ["azureservicebus://shop", "azureservicebus://policy@shop"])
@pytest.mark.django_db
def test_a_url_that_lacks_something_is_a_clear_error(use_bus: UseBus, url: str) -> None:
    bus = use_bus(url)
    with listening(OrderPlaced, group="billing"), pytest.raises(BusUnavailableError, match="POLICY:KEY@NAMESPACE"):
        bus.probe()


@pytest.mark.django_db(transaction=True)
class TestMessages:
    def test_each_group_gets_its_copy(self, in_memory: AzureBus) -> None:
        with (
            listening(OrderPlaced, group="billing") as billing,
            listening("order.#", group="audit") as audit,
            running(),
        ):
            assert OrderPlaced(7, note="Grüße").send().state == "published"
            wait_until(lambda: billing and audit, 30, "both copies")
        assert billing[0][0] == OrderPlaced(7, note="Grüße")
        assert audit[0][0].alias == "order.placed"

    def test_nobody_receives_it_is_an_error(self, in_memory: AzureBus) -> None:
        with pytest.raises(UnroutableError):
            OrderPlaced(1).send()

    def test_a_retry_goes_to_the_failing_group_and_a_refusal_to_the_dead_letters(self, in_memory: AzureBus) -> None:
        def fail(message: Any) -> None:
            if message.number == 2:
                raise PermanentError("never")
            if len(failing) < 2:
                raise ConnectionError("once")

        with (
            listening(OrderPlaced, fail, group="billing") as failing,
            listening(OrderPlaced, group="stock") as stock,
            running(),
        ):
            OrderPlaced(1).send()
            wait_until(lambda: len(failing) == 2, 30, "the second attempt")
            OrderPlaced(2).send_to("billing")
            wait_until(DeadLetter.objects.exists, 30, "the dead letter")
        assert [context.attempt for _, context in failing[:2]] == [1, 2]
        assert len(stock) == 1
        assert not OutboxMessage.objects.exists()
