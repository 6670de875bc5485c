"""What we read is what py-amqp reads; what we do not is left to it."""

from __future__ import annotations

from typing import Any

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_handler, frame_writer
from amqp.serialization import dumps, loads
from hypothesis import example, given
from hypothesis import strategies as some
from msgspec.structs import replace

from koan_django.messaging import send_many
from koan_django.messaging.buses.amqp.arrivals import Ack, Delivery, read
from koan_django.messaging.buses.amqp.link import Link
from koan_django.messaging.buses.amqp.properties import from_amqp
from koan_django.messaging.envelope import Envelope
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.test_frames import FRAME_MAX, Recorder, as_amqp, properties, shorts
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

numbers = some.integers(1, 2**63)
channels = some.integers(1, 2047)


def delivered(channel: int, tag: int, key: str, message: Message) -> bytes:
    """The frames in which a broker delivers ``message``."""
    recorder = Recorder()
    arguments = dumps("sLbss", ("consumer-1", tag, False, "koan", key))
    frame_writer(recorder, recorder)(1, channel, spec.Basic.Deliver, arguments, message)
    return recorder.written


class Wired:
    bytes_recv = 0


def read_by_amqp(data: bytes) -> tuple[tuple[Any, ...], Message]:
    found: list[Any] = []

    def deliver(_channel: int, _method: object, arguments: bytes, message: Message) -> None:
        found.append((tuple(loads("sLbss", arguments, 4)[0]), message))

    on_frame = frame_handler(Wired(), deliver, content_methods=frozenset([spec.Basic.Deliver]))
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 3 : at + 7], "big")
        on_frame((data[at], int.from_bytes(data[at + 1 : at + 3], "big"), data[at + 7 : at + 7 + size]))
        at += size + 8
    return found[0]


@given(channels, numbers, shorts, properties, some.integers(0, 6000), some.binary(max_size=20))
@example(1, 1, "key", {}, 0, b"")
@example(1, 1, "key", {"application_headers": {"a": "ü", "n": 7, "long": 2**40}, "priority": 3}, 10, b"more")
def test_what_is_read_is_what_py_amqp_reads(
    channel: int, tag: int, key: str, given: dict[str, Any], size: int, behind: bytes
) -> None:
    body = bytes(number % 251 for number in range(size))
    data = delivered(channel, tag, key, Message(body, **given))
    found = read(b"before" + data + behind, 6)
    if found is None:
        return
    assert isinstance(found, Delivery)
    (consumer_tag, number, _, _, routing_key), message = read_by_amqp(data)
    assert (found.channel, found.consumer_tag, found.end) == (channel, consumer_tag, 6 + len(data))
    assert (found.message.delivery_tag, found.message.delivery_info["routing_key"]) == (number, routing_key)
    assert (found.message.properties, found.message.body) == (message.properties, bytes(message.body or b""))


def ours(body: bytes = b'{"a": 1}') -> bytes:
    headers = {"koan-sent-at": "2026-01-01T00:00:00+00:00", "x": "ü", "koan-correlation": "c"}
    envelope = Envelope("m1", "order.placed", 2, body, headers, "order.placed.p", attempt=2, priority=1)
    return delivered(1, 7, "order.placed.p", as_amqp(envelope))


def test_a_message_of_ours_takes_the_short_way() -> None:
    found = read(ours(), 0)
    assert isinstance(found, Delivery)
    envelope = from_amqp(found.message, "billing")
    assert envelope == from_amqp(_received(ours()), "billing")
    assert (envelope.id, envelope.attempt, envelope.headers["x"]) == ("m1", 2, "ü")


def _received(data: bytes) -> Message:
    (_, _, _, _, key), message = read_by_amqp(data)
    message.delivery_info = {"routing_key": key}
    return message


USUAL = Envelope("m1", "order.placed", 1, b"{}", {"koan-sent-at": "2026-01-01T00:00:00+00:00"}, "order.placed.p")


@pytest.mark.parametrize("delivered_as", ["order.placed.p", "koan.billing", "koan.billing.dead", "order.placed.paid.p"])
@pytest.mark.parametrize(
    "sent",
    [
        USUAL,
        replace(USUAL, routing_key="order.placed.p3"),
        replace(USUAL, version=2),
        replace(USUAL, attempt=2),
        replace(USUAL, headers={}),
        replace(USUAL, alias="koan.billing", routing_key="koan.billing.p"),
        replace(USUAL, headers={"koan-sent-at": "once"}, priority=3),
    ],
    ids=["usual", "partition", "version", "attempt", "no-time", "as-the-queue", "strange-time"],
)
def test_a_message_is_the_same_wherever_the_broker_has_put_it(sent: Envelope, delivered_as: str) -> None:
    """Dead-lettered by the broker, or moved: it goes by the key of a queue then."""
    found = read(delivered(1, 7, delivered_as, as_amqp(sent)), 0)
    assert isinstance(found, Delivery)
    assert from_amqp(found.message, "") == replace(sent, headers={**sent.headers, "koan-correlation": "m1"})


EVENT = {"cloudEvents:specversion": "1.0", "cloudEvents:id": "42", "cloudEvents:type": "order.placed"}


@pytest.mark.parametrize("key", ["order.placed.p4", "order.placed.eu", "orders"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"koan-sent-at": "2026-01-01T00:00:00+00:00"}, {**EVENT, "cloudEvents:time": "2026-01-01T00:00:00Z"}],
    ids=["none", "time", "event"],
)
def test_the_key_of_a_stranger_is_left_as_it_is(key: str, headers: dict[str, str]) -> None:
    message = Message(b"{}", type="order.placed", application_headers=headers)
    found = read(delivered(1, 7, key, message), 0)
    assert isinstance(found, Delivery)
    assert from_amqp(found.message, "").routing_key == key


def test_who_writes_our_headers_and_not_the_key_keeps_the_partition_that_the_message_came_by() -> None:
    message = Message(b"{}", type="order.placed", application_headers={"koan-version": 1, "koan-partition-key": "k"})
    found = read(delivered(1, 7, "order.placed.p4", message), 0)
    assert isinstance(found, Delivery)
    assert from_amqp(found.message, "").routing_key == "order.placed.p4"


def test_one_of_ours_is_no_event_of_a_stranger_whatever_headers_it_has() -> None:
    sent = replace(USUAL, headers={**USUAL.headers, **EVENT, "cloudEvents:type": "another", "koan-correlation": "c"})
    found = read(delivered(1, 7, "order.placed.p", as_amqp(sent)), 0)
    assert isinstance(found, Delivery)
    assert from_amqp(found.message, "") == sent


def test_a_part_of_a_message_is_left() -> None:
    assert {read(ours()[:size], 0) for size in range(len(ours()))} == {None}


@given(some.integers(0, len(ours()) - 1), some.integers(0, 255))
def test_other_bytes_never_raise(at: int, value: int) -> None:
    data = bytearray(ours())
    data[at] = value
    found = read(bytes(data), 0)
    assert found is None or found.end <= len(data)


@pytest.mark.parametrize(
    "message",
    [
        Message(b"x", application_headers={"x-death": [{"count": 1}]}),
        Message(b"x", application_headers={"on": True}),
        Message(b"x", reply_to="somebody"),
        Message("x".encode("utf-16"), content_encoding="utf-16"),
        Message(b"x" * (2 * FRAME_MAX)),
    ],
    ids=["array", "bool", "property", "encoding", "frames"],
)
def test_what_is_not_plain_is_left_to_py_amqp(message: Message) -> None:
    assert read(delivered(1, 1, "key", message), 0) is None


@given(channels, numbers, some.booleans(), some.binary(max_size=30))
def test_confirms_are_read(channel: int, tag: int, multiple: bool, behind: bytes) -> None:
    payload = b"".join(number.to_bytes(2, "big") for number in spec.Basic.Ack) + dumps("Lb", (tag, multiple))
    data = b"\x01" + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
    assert read(data + behind, 0) == Ack(len(data), channel, tag, multiple)
    assert read(data[:-1], 0) is None


@pytest.mark.django_db(transaction=True)
def test_py_amqp_sees_few_of_many_messages(use_bus: UseBus, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    use_bus(vhost.url)
    taken: list[bool] = []
    take = Link._take

    def counted(link: Link) -> bool:
        taken.append(take(link))
        return taken[-1]

    monkeypatch.setattr(Link, "_take", counted)
    with listening(OrderPlaced) as arrived, running():
        send_many([OrderPlaced(number) for number in range(300)])
        wait_until(lambda: len(arrived) == 300, 30)
    assert taken.count(True) >= 300
    assert taken.count(False) < 100
