"""What we write is what py-amqp writes, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as some

from koan_django.messaging.buses.amqp import frames
from koan_django.messaging.buses.amqp.properties import to_amqp
from koan_django.messaging.envelope import Envelope

texts = some.text(max_size=60)
shorts = some.text(max_size=63)  # of up to four bytes each
headers = some.dictionaries(
    shorts,
    texts
    | some.integers(-(2**40), 2**40)
    | some.booleans()
    | some.none()
    | some.floats(allow_nan=False)
    | some.lists(texts, max_size=2)
    | some.dictionaries(shorts, texts, max_size=2),
    max_size=6,
)
octets = some.integers(0, 255)
properties = some.fixed_dictionaries(
    {},
    optional={
        "content_type": shorts,
        "content_encoding": some.just("utf-8"),
        "application_headers": headers,
        "delivery_mode": octets,
        "priority": octets,
        "correlation_id": shorts | some.none(),
        "reply_to": shorts,
        "expiration": shorts,
        "message_id": shorts,
        "timestamp": some.integers(0, 2**64 - 1),
        "type": shorts,
        "app_id": shorts,
    },
)


FRAME_MAX = 4096


class Recorder:
    """What py-amqp's frame writer asks of its connection and of the transport."""

    frame_max = FRAME_MAX
    bytes_sent = 0

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def written_by_amqp(channel: int, exchange: str, key: str, message: Message) -> bytes:
    recorder = Recorder()
    arguments = dumps("Bssbb", (0, exchange, key, True, False))
    frame_writer(recorder, recorder)(1, channel, spec.Basic.Publish, arguments, message)
    return recorder.written


@given(some.integers(1, 2047), shorts, shorts, properties, some.integers(0, 10_000))
def test_frames_are_those_of_py_amqp(channel: int, exchange: str, key: str, given: dict[str, Any], size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    encoded = frames.properties_of(Message(body, **given))
    ours = frames.publish(channel, exchange, key, encoded, body, FRAME_MAX)
    assert ours == written_by_amqp(channel, exchange, key, Message(body, **given))


def test_an_envelope_takes_the_short_way() -> None:
    envelope = Envelope(
        "m1", "order.placed", 2, b'{"a": 1}', {"koan-sent-at": "2026-01-01T00:00:00+00:00", "x": "ü"}, "order.placed.p"
    )
    message = to_amqp(envelope)
    assert message.properties.keys() <= frames._NAMES
    ours = frames.publish(1, "koan", "order.placed.p", frames.properties_of(message), envelope.body, FRAME_MAX)
    assert ours == written_by_amqp(1, "koan", "order.placed.p", message)


@pytest.mark.parametrize(
    "given",
    [
        {"message_id": "x" * 256},
        {"application_headers": {"x" * 256: "a name too long"}},
        {"application_headers": {"an": object()}},
        {"priority": 256},
        {"timestamp": -1},
    ],
    ids=["id", "header-name", "header-value", "priority", "timestamp"],
)
def test_what_cannot_be_written_is_refused_as_py_amqp_does(given: dict[str, Any]) -> None:
    with pytest.raises(Exception) as theirs:  # whatever it is
        Message(b"", **given)._serialize_properties()
    with pytest.raises(type(theirs.value)):
        frames.properties_of(Message(b"", **given))
