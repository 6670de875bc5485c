"""What we write is what py-amqp writes, byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from koan_django.messaging.buses.amqp import frames
from koan_django.messaging.buses.amqp.properties import properties_of
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


def as_amqp(envelope: Envelope, **extra: Any) -> Message:
    """The message that an envelope travels in, as py-amqp has it."""
    correlation, sent_at = envelope.correlation_id, envelope.sent_at
    fits = len(correlation.encode("utf-8", "surrogatepass")) <= 255
    attempt = {"koan-attempt": envelope.attempt} if envelope.attempt > 1 else {}
    key = {"koan-routing-key": envelope.routing_key} if envelope.routing_key != f"{envelope.alias}.p" else {}
    return Message(
        envelope.body,
        content_type="application/json",
        content_encoding="utf-8",
        application_headers={
            **envelope.headers,
            **extra,
            "koan-version": envelope.version,
            **attempt,
            **key,
        },
        delivery_mode=2,
        priority=envelope.priority,
        correlation_id=correlation if fits else None,
        message_id=envelope.id,
        type=envelope.alias,
        **({} if sent_at is None or sent_at.year < 1970 else {"timestamp": int(sent_at.timestamp())}),
    )


names = shorts | some.sampled_from(["koan-correlation", "koan-tenant", "x-death"])
times = some.datetimes(timezones=some.just(UTC)).map(datetime.isoformat)
envelopes = some.builds(
    Envelope,
    id=shorts,
    alias=shorts,
    version=some.integers(1, 2**40),
    body=some.binary(max_size=FRAME_MAX * 3),
    headers=some.dictionaries(names, texts | some.text(min_size=250, max_size=300), max_size=4)
    | some.fixed_dictionaries({"koan-sent-at": times | texts}),
    routing_key=texts,
    attempt=some.integers(1, 2**31),
    priority=octets,
)
#: As most are: a first attempt without a partition key.
usual = some.builds(
    lambda alias, headers: Envelope("m1", alias, 1, b"{}", headers, f"{alias}.p"),
    shorts,
    some.fixed_dictionaries({}, optional={"koan-sent-at": times | texts}),
)
extras = some.dictionaries(shorts, texts | some.booleans(), max_size=3)


@given(some.integers(1, 2047), shorts, shorts, envelopes | usual, extras)
def test_frames_are_those_of_py_amqp(
    channel: int, exchange: str, key: str, envelope: Envelope, extra: dict[str, Any]
) -> None:
    ours = frames.publish(channel, exchange, key, properties_of(envelope, extra), envelope.body, FRAME_MAX)
    assert ours == written_by_amqp(channel, exchange, key, as_amqp(envelope, **extra))


@given(headers)
def test_tables_are_those_of_py_amqp(given: dict[str, Any]) -> None:
    assert frames.long(len(frames.items(given))) + frames.items(given) == dumps("F", (given,))


def test_a_message_without_room_keeps_the_headers_that_are_ours_and_short() -> None:
    given = {"koan-tenant": "acme", "theirs": "x", "baggage": "y" * 3000}
    envelope = Envelope("m1", "order.placed", 2, b"{}", given, "order.placed.p")
    kept = replace(envelope, headers={"koan-tenant": "acme"})
    written = properties_of(envelope, {"why": "z"}, bare=True)
    assert written == as_amqp(kept, why="z")._serialize_properties()


PLAIN = Envelope("m1", "order.placed", 1, b"{}", {}, "order.placed.p")


@pytest.mark.parametrize(
    "given",
    [
        replace(PLAIN, id="x" * 256),
        replace(PLAIN, alias="x" * 256),
        replace(PLAIN, headers={"x" * 256: "a name too long"}),
        replace(PLAIN, headers={"an": object()}),
        replace(PLAIN, priority=256),
    ],
    ids=["id", "alias", "header-name", "header-value", "priority"],
)
def test_what_cannot_be_written_is_refused_as_py_amqp_does(given: Envelope) -> None:
    with pytest.raises(Exception) as theirs:  # whatever it is
        as_amqp(given)._serialize_properties()
    with pytest.raises(type(theirs.value)):
        properties_of(given)
