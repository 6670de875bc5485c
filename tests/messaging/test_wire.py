"""What stands in a message: CloudEvents, the trace and the baggage, and headers that cannot be read."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from amqp.basic_message import Message
from django.db import transaction

from koan_django.core import PermanentError
from koan_django.core.context import baggage, correlation, tenant, traceparent, tracestate
from koan_django.messaging.buses.amqp.tolerance import tolerant
from koan_django.messaging.buses.amqp.topology import declare
from koan_django.messaging.dead import deadletters
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage
from koan_django.messaging.outgoing.sending import wrap
from koan_django.testing import override_koan
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved, listening
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BAGGAGE = "plan=gold,region=eu"


class TestContext:
    def test_trace_baggage_and_cause_go_through_outbox_retry_dead_letter_and_replay(
        self, use_bus: UseBus, vhost: Vhost
    ) -> None:
        use_bus(vhost.url)
        failures = {OrderPlaced: [ConnectionError("once")], OrderPaid: [PermanentError("no")]}

        def then(value: Any) -> None:
            if left := failures.get(type(value)):
                raise left.pop()
            if isinstance(value, OrderPlaced):
                OrderPaid(value.number).send()
            elif isinstance(value, OrderPaid):
                StockMoved("a-1", 1).send()

        with (
            listening(OrderPlaced, then, group="one") as placed,
            listening(OrderPaid, then, group="two") as paid,
            listening(StockMoved, then, group="three") as moved,
            running(),
        ):
            with (
                correlation.use("story-1"),
                tenant.use("acme"),
                traceparent.use(TRACE),
                tracestate.use("vendor=a:1"),
                baggage.use(BAGGAGE),
                transaction.atomic(),
            ):
                first = OrderPlaced(1).send()
                assert OutboxMessage.objects.get().headers["baggage"] == BAGGAGE
            wait_until(lambda: DeadLetter.objects.exists(), 30, "the dead letter")
            dead = DeadLetter.objects.get()
            deadletters.replay(dead)
            wait_until(lambda: MessageEvent.objects.filter(kind="handled").count() == 3, 30, "the end of the story")
        contexts = [context for found in (placed, paid, moved) for _, context in found]
        assert [context.attempt for context in contexts] == [1, 2, 1, 1, 1]
        assert {context.correlation_id for context in contexts} == {"story-1"}
        assert {context.tenant for context in contexts} == {"acme"}
        assert {context.headers["baggage"] for context in contexts} == {BAGGAGE}
        assert [context.causation_id for context in contexts] == ["", "", first.id, first.id, dead.message_id]
        traces = [
            (c.headers.get("traceparent"), c.headers.get("tracestate"), c.headers.get("koan-link")) for c in contexts
        ]
        assert traces == [
            *[(TRACE, "vendor=a:1", None)] * 3,
            (None, None, TRACE),  # sent once more: in a trace of its own, which knows the one before
            (None, None, None),
        ]

    def test_baggage_stays_at_home_where_the_project_says_so(self) -> None:
        buses = {"main": {"URL": "database://"}}
        with baggage.use(BAGGAGE):
            with override_koan(MESSAGING={"BUSES": buses}):
                assert wrap(OrderPlaced(1), "main").headers["baggage"] == BAGGAGE
            with override_koan(MESSAGING={"BUSES": buses, "PROPAGATE_BAGGAGE": False}):
                assert "baggage" not in wrap(OrderPlaced(1), "main").headers

    def test_a_second_replay_still_leads_back_to_the_trace_of_the_first_sending(self) -> None:
        sent = Envelope("m1", "order.placed", 1, b"{}", {"traceparent": TRACE, "tracestate": "v=1"}, "order.placed.p")
        assert dict(sent.replayed(b"{}").replayed(b"{}").headers) == {"koan-link": TRACE}

    @pytest.mark.parametrize("cloudevents", [False, True])
    def test_a_message_that_begins_a_story_says_so_by_its_own_id_alone(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire, cloudevents: bool
    ) -> None:
        bus = use_bus(vhost.url, CLOUDEVENTS=cloudevents)
        with listening(OrderPlaced, group="billing"):
            declare(wire.channel, bus.topology())
            first = OrderPlaced(1).send_to("billing")
            with correlation.use("story-1"):
                OrderPlaced(2).send_to("billing")
        begins, belongs = wire.take(bus.names.group("billing"))
        assert begins.properties["correlation_id"] == first.id
        assert "koan-correlation" not in begins.headers
        assert begins.headers.get("cloudEvents:correlationid") == (first.id if cloudevents else None)
        assert belongs.properties["correlation_id"] == belongs.headers["koan-correlation"] == "story-1"


class TestCloudEvents:
    def test_a_message_is_an_event_in_binary_mode_through_its_retries_and_as_a_dead_letter(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire
    ) -> None:
        bus = use_bus(vhost.url, CLOUDEVENTS=True)
        with listening(StockMoved, group="billing", ordered=False), correlation.use("story-1"):
            declare(wire.channel, bus.topology())
            receipt = StockMoved("a-1", 3).send_to("billing")
        [message] = wire.take(bus.names.group("billing"))
        headers, properties = message.headers, message.properties
        attributes = {name.partition(":")[2]: headers[name] for name in headers if name.startswith("cloudEvents:")}
        time = datetime.fromisoformat(attributes.pop("time"))
        assert time.tzinfo is not None
        assert attributes == {
            "specversion": "1.0",
            "id": receipt.id,
            "source": "/tests",
            "type": "stock.moved",
            "correlationid": "story-1",
            "partitionkey": "a-1",
        }
        assert properties["content_type"] == "application/json"  # datacontenttype
        assert json.loads(message.body)["sku"] == "a-1"
        assert headers["koan-version"] == 1
        assert headers["koan-routing-key"].startswith("stock.moved.p")

    def test_it_is_the_same_message_on_arrival(self, use_bus: UseBus, vhost: Vhost) -> None:
        use_bus(vhost.url, CLOUDEVENTS=True)
        with listening(OrderPlaced, group="billing") as arrived, running():
            receipt = OrderPlaced(1).send()
            wait_until(lambda: bool(arrived), 30, "the message")
        [(_, context)] = arrived
        assert (context.id, context.alias) == (receipt.id, "order.placed")
        assert "koan-idempotency-key" not in context.headers

    def test_its_attributes_outlive_the_retries_and_are_in_the_dead_letter(self, use_bus: UseBus, vhost: Vhost) -> None:
        use_bus(vhost.url, CLOUDEVENTS=True)

        def fail(value: OrderPlaced) -> None:
            raise ConnectionError("never")

        with listening(OrderPlaced, fail, group="billing") as arrived, running():
            OrderPlaced(1).send()
            wait_until(lambda: DeadLetter.objects.exists(), 30, "the dead letter")
        dead = DeadLetter.objects.get()
        told = [context.headers["cloudEvents:id"] for _, context in arrived]
        assert told == [dead.message_id] * 3
        assert dead.headers["cloudEvents:type"] == "order.placed"

    def test_they_are_left_out_unless_they_are_wanted(self, use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
        bus = use_bus(vhost.url)
        queue = wire.queue(bus.names.group("billing"))
        OrderPlaced(1).send_to("billing")
        assert not any(name.startswith("cloudEvents") for name in wire.take(queue)[0].headers)

    def test_the_source_may_be_given(self, use_bus: UseBus) -> None:
        with (
            override_koan(
                MESSAGING={
                    "SOURCE": "https://shop.example/orders",
                    "BUSES": {"main": {"URL": "database://", "CLOUDEVENTS": True}},
                }
            ),
            listening(OrderPlaced),
        ):
            assert wrap(OrderPlaced(1), "main").headers["cloudEvents:source"] == "https://shop.example/orders"

    @pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_"])
    def test_an_event_of_a_stranger_arrives_with_what_it_says_of_itself(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire, prefix: str
    ) -> None:
        bus = use_bus(vhost.url)
        told = {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/elsewhere",
            "type": "order.placed",
            "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "subject": "order/7",
            "correlationid": "story-2",
            "partitionkey": "7",
            "traceparent": TRACE,
            "shade": "blue",
        }
        headers = {prefix + name: value for name, value in told.items()}
        failures = [ConnectionError("once")]

        def fail_once(value: OrderPlaced) -> None:
            if failures:
                raise failures.pop()

        with listening(OrderPlaced, fail_once, group="billing") as arrived, running():
            queue = bus.names.group("billing")
            wire.publish(queue, b'{"number": 7}', content_type="application/json", application_headers=headers)
            wait_until(lambda: len(arrived) == 2, 30, "both attempts")
        (_, before), (message, context) = arrived
        assert before.headers == context.headers  # its retry says the same
        assert (message.number, context.alias, context.id) == (7, "order.placed", "e-1")
        assert context.correlation_id == "story-2"
        assert context.sent_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert context.headers["traceparent"] == TRACE
        assert context.headers["koan-partition-key"] == "7"
        assert context.headers["cloudEvents:subject"] == "order/7"
        assert context.headers["cloudEvents:shade"] == "blue"

    def test_events_of_two_sources_may_have_one_id_and_are_no_duplicates(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire
    ) -> None:
        bus = use_bus(vhost.url)
        with listening(OrderPlaced, group="billing") as arrived, running():
            for source in ("/a", "/b", "/b"):
                headers = {"specversion": "1.0", "id": "1", "source": source, "type": "order.placed"}
                named = {f"cloudEvents:{name}": value for name, value in headers.items()}
                wire.publish(bus.names.group("billing"), b'{"number": 1}', application_headers=named)
            wait_until(lambda: MessageEvent.objects.filter(kind__in=("handled", "duplicate")).count() == 3, 30, "all")
        assert sorted(context.headers["cloudEvents:source"] for _, context in arrived) == ["/a", "/b"]

    def test_an_event_in_structured_mode_is_unwrapped_and_its_retry_is_as_well(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire
    ) -> None:
        bus = use_bus(vhost.url)
        failures = [ConnectionError("once")]

        def fail_once(value: OrderPlaced) -> None:
            if failures:
                raise failures.pop()

        told = {
            "specversion": "1.0",
            "id": "e-1",
            "source": "/elsewhere",
            "type": "order.placed",
            "data": {"number": 7},
        }
        plain = {**told, "id": "e-2", "data_base64": "eyJudW1iZXIiOiA4fQ=="}
        del plain["data"]
        with listening(OrderPlaced, fail_once, group="billing") as arrived, running():
            for event in (told, plain):
                wire.publish(
                    bus.names.group("billing"),
                    json.dumps(event).encode(),
                    content_type="application/cloudevents+json; charset=utf-8",
                )
            wait_until(lambda: MessageEvent.objects.filter(kind="handled").count() == 2, 30, "both")
        found = {context.id: (message.number, context.headers["cloudEvents:source"]) for message, context in arrived}
        assert found == {"e-1": (7, "/elsewhere"), "e-2": (8, "/elsewhere")}

    @pytest.mark.parametrize(
        "body",
        [b"not json", b"[]", b'{"specversion": "9", "id": "1"}', b'{"specversion": "1.0", "data_base64": "%"}'],
        ids=["text", "array", "version", "base64"],
    )
    def test_what_only_claims_to_be_an_event_is_a_dead_letter_with_its_body(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire, body: bytes
    ) -> None:
        bus = use_bus(vhost.url)
        with listening(OrderPlaced, group="billing"), running():
            wire.publish(
                bus.names.group("billing"), body, type="order.placed", content_type="application/cloudevents+json"
            )
            wait_until(lambda: DeadLetter.objects.exists(), 30, "the dead letter")
        assert bytes(DeadLetter.objects.get().body) == body

    @pytest.mark.parametrize(
        "event",
        [
            {"data": "[" * 100_000 + "]" * 100_000},
            {"id": '"' + "x" * 300_000 + '"'},
            {"id": '"' + "\U0001f600" * 128 + '"', "type": '"' + "\U0001f600" * 200 + '"'},
            {"time": '"0001-01-01T00:00:00Z"', "partitionkey": '"' + "k" * 300_000 + '"'},
            {"time": '"9999-12-31T23:59:59-23:59"', "x" * 300: '"y"'},
        ],
        ids=["deep", "id", "bytes", "time", "name"],
    )
    def test_one_whose_attributes_fit_nowhere_is_a_dead_letter_and_the_worker_goes_on(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire, event: dict[str, str]
    ) -> None:
        bus = use_bus(vhost.url)
        told = {"specversion": '"1.0"', "id": '"1"', "type": '"order.placed"', "data": '"no order"'} | event
        body = ("{" + ", ".join(f'"{name}": {value}' for name, value in told.items()) + "}").encode()
        with listening(OrderPlaced, group="billing") as arrived, running() as runner:
            queue = bus.names.group("billing")
            wire.publish(queue, body, type="order.placed", content_type="application/cloudevents+json")
            wire.publish(queue, b'{"number": 1}', type="order.placed")
            wait_until(lambda: DeadLetter.objects.exists() and arrived, 30, "the dead letter, and what was behind it")
            assert not any(consumer.error for consumer in runner.consumers)
        assert DeadLetter.objects.count() == len(arrived) == 1


#: A timestamp of a header in milliseconds, which no client of Python writes.
MILLISECONDS = (b"T" + struct.pack(">Q", 946684800), b"T" + struct.pack(">Q", 1_700_000_000_000))


class TestHeadersThatCannotBeRead:
    def test_one_that_cannot_be_decoded_is_left_out_and_the_others_stay(
        self, use_bus: UseBus, vhost: Vhost, wire: Wire, caplog: pytest.LogCaptureFixture
    ) -> None:
        bus = use_bus(vhost.url)
        headers = {"before": "1", "koan-tenant": "acme", "at": datetime(2000, 1, 1), "koan-correlation": "story-3"}
        headers["nested"] = {"deep": [1, {"at": "x"}]}
        with listening(OrderPlaced, group="billing") as arrived, running():
            told = {"type": "order.placed", "message_id": "m1", "application_headers": headers}
            wire.publish_raw(bus.names.group("billing"), b'{"number": 1}', MILLISECONDS, **told)
            wait_until(lambda: len(arrived) == 1, 30, "the message")
        [(_, context)] = arrived
        assert (context.id, context.tenant, context.correlation_id) == ("m1", "acme", "story-3")
        assert context.headers["before"] == "1"
        assert "at" not in context.headers
        assert "deep" in context.headers["nested"]
        assert "without the headers 'at'" in caplog.text

    def test_behind_one_of_an_unknown_type_nothing_can_be_read_and_what_stands_before_stays(self) -> None:
        """The broker itself takes none, so no client can send one."""
        table = b"\x01aS\x00\x00\x00\x01x" + b"\x01b?\x00\x00\x00\x06hidden" + b"\x01cS\x00\x00\x00\x01y"
        flags = struct.pack(">H", 1 << 13 | 1 << 7)
        properties = struct.pack(">L", len(table)) + table + b"\x02m1"
        header = struct.pack(">HHQ", 60, 0, 2) + flags + properties
        read: dict[str, Any] = {}

        def on_frame(frame: Any) -> None:
            message = Message()
            message.inbound_header(frame[2])
            read.update(message.properties)

        tolerant(on_frame)((2, 1, header))
        assert read == {"application_headers": {"a": "x"}, "message_id": "m1"}
