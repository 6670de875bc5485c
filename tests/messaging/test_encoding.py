"""Bodies: what is refused on sending, what is read, and how old versions are lifted."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from django.contrib.auth.models import Group
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.exceptions import RegistrationError
from koan_django.messaging import Header, Message, PartitionKey, Sensitive, encoding, upcaster
from koan_django.messaging.encoding import decode, encode, missing_upcasts, readable
from koan_django.messaging.exceptions import UnreadableMessageError
from tests.messaging.shop import OrderPlaced, StockMoved


class Everything(Message):
    number: int = 0
    ratio: float = 0.0
    maybe: float | None = None
    price: Decimal = Decimal(0)
    at: datetime | None = None
    span: timedelta = timedelta(0)
    identifier: UUID = UUID(int=0)
    text: str = ""
    anything: Any = None
    items: list[int] = []

    class Meta:
        alias = "tests.everything"


class Order(Message):
    """Version 1 had ``price`` as text, version 2 in cents; version 3 names its currency."""

    cents: int
    currency: str

    class Meta:
        alias = "tests.order"
        version = 3


@upcaster(Order, from_version=1)
def to_cents(body: dict[str, Any]) -> dict[str, Any]:
    return {"cents": round(float(body["price"]) * 100)}


@upcaster(Order, from_version=2)
def with_currency(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "currency": "EUR"}


class Gap(Message):
    a: int = 0

    class Meta:
        alias = "tests.gap"
        version = 5


@upcaster(Gap, from_version=2)
def gap(body: dict[str, Any]) -> dict[str, Any]:
    return body


@given(
    st.builds(
        Everything,
        number=st.integers(-(2**63), 2**64 - 1),
        ratio=st.floats(allow_nan=False, allow_infinity=False),
        maybe=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        at=st.none() | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])),
        span=st.timedeltas(timedelta(-(10**6)), timedelta(10**6)),
        identifier=st.uuids(),
        text=st.text(st.characters(exclude_categories=["Cs"])),
        items=st.lists(st.integers(0, 9)),
    )
)
def test_what_is_sent_is_what_arrives(message: Everything) -> None:
    assert decode(Everything, encode(message), 1) == message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"number": "1"}, r"Everything cannot be sent: Expected `int`, got `str` - at `\$\.number`"),
        ({"items": [1, "x"]}, r"at `\$\.items\[1\]`"),
        ({"number": None}, r"at `\$\.number`"),
        ({"ratio": math.nan}, "Everything cannot be sent"),
        ({"maybe": math.nan}, r"nan is no number that JSON can hold - at `\$\.maybe`"),
        ({"maybe": -math.inf}, "-inf is no number"),
        ({"anything": {"deep": [1, {"er": math.inf}]}}, r"at `\$\.anything\.deep\[\.\.\.\]\.er`"),
        ({"text": "\udcff"}, "Everything cannot be sent.*surrogates"),
        ({"anything": object()}, r"a builtins\.object cannot travel in a message"),
        ({"anything": {1, 2}.__iter__()}, "cannot travel in a message"),
    ],
)
def test_a_value_that_its_field_does_not_allow_is_the_senders_error(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        encode(Everything(**fields))


class Plain(Message):
    """Of these a look at the types of the values is enough."""

    number: PartitionKey[int] = 0
    text: Annotated[str, Header("x-text")] = ""
    secret: Sensitive[str] = ""
    flag: bool = False

    class Meta:
        alias = "tests.plain"


class Bounded(Message):
    number: Annotated[int, msgspec.Meta(ge=0)] = 0

    class Meta:
        alias = "tests.bounded"


class Refuses(Message):
    text: str = ""

    class Meta:
        alias = "tests.refuses"

    def __post_init__(self) -> None:
        if self.text.startswith("e:"):
            raise ValueError("twice")
        msgspec.structs.force_setattr(self, "text", f"e:{self.text}")


def test_what_a_message_refuses_to_be_made_from_is_the_senders_error() -> None:
    with pytest.raises(TypeError, match="twice"):
        encode(Refuses("a"))


def test_a_number_with_more_digits_than_can_be_read_is_the_senders_error() -> None:
    with pytest.raises(TypeError, match="Plain cannot be sent"):
        encode(Plain(-(10**4299)))
    assert decode(Plain, encode(Plain(2**70)), 1).number == 2**70


class Text(str):
    __slots__ = ()


values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(st.characters(categories=["Cs"])),
    st.text().map(Text),
    st.text().map(mark_safe),
    st.binary(),
    st.lists(st.integers()),
)


@given(st.builds(Plain, number=values, text=values, secret=values, flag=values) | st.builds(Bounded, number=values))
def test_what_a_look_lets_pass_is_what_could_be_read_back(message: Message) -> None:
    try:
        body = msgspec.json.Encoder(enc_hook=encoding._hook).encode(message)
        read = msgspec.json.decode(body, type=type(message))
    except (TypeError, ValueError, OverflowError):
        with pytest.raises(TypeError, match="cannot be sent"):
            encode(message)
    else:
        assert msgspec.json.decode(encode(message), type=type(message)) == read


@pytest.mark.parametrize(
    ("message", "decodes"),
    [(Plain(1, "a"), 0), (Plain(1, mark_safe("a")), 1), (Bounded(1), 1), (Everything(), 1)],
    ids=["plain", "safe-text", "bounded", "others"],
)
def test_a_message_of_plain_values_is_not_read_back(
    message: Message, decodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[type] = []
    decoder = encoding.decoder
    monkeypatch.setattr(encoding, "decoder", lambda cls: (read.append(cls), decoder(cls))[1])
    encode(message)
    assert len(read) == decodes


def test_a_body_that_is_too_deep_is_the_senders_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="Everything cannot be sent"):
        encode(Everything(anything=deep))


def test_null_is_null_where_it_is_meant() -> None:
    value = {"a": None, "b": "null"}
    assert decode(Everything, encode(Everything(anything=value)), 1).anything == value


@pytest.mark.django_db
def test_rows_cannot_travel_and_the_error_says_what_to_send() -> None:
    group = Group.objects.create(name="x")
    with pytest.raises(TypeError, match=rf"a auth\.Group instance .* send its primary key \(pk={group.pk}\)"):
        encode(Everything(anything=group))
    with pytest.raises(TypeError, match="a QuerySet cannot travel in a message: send primary keys"):
        encode(Everything(anything=[Group.objects.all()]))
    with pytest.raises(TypeError, match="cannot travel in a message"):
        encode(Everything(anything=SimpleLazyObject(lambda: group)))


def test_lazy_and_safe_text_travel_as_text() -> None:
    assert decode(Everything, encode(Everything(text=mark_safe("<b>"), maybe=None)), 1).text == "<b>"
    sent = Everything(text=gettext_lazy("hello"))  # type: ignore[arg-type]
    assert decode(Everything, encode(sent), 1).text == "hello"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "the body is not a order.placed"),
        (b"\xff\xfe", "the body is not a order.placed"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"note": "x"}', "missing required field `number`"),
        (b'{"number": 1.5}', r"at `\$\.number`"),
        (b'{"number": 1, "note": ' + b"[" * 50_000, "the body is not a order.placed"),
    ],
)
def test_a_body_that_cannot_be_read_says_where_and_why(body: bytes, expected: str) -> None:
    with pytest.raises(UnreadableMessageError, match=expected) as raised:
        decode(OrderPlaced, body, 1)
    assert not raised.value.transient


@given(st.binary(max_size=200))
def test_no_body_raises_anything_else(body: bytes) -> None:
    with suppress(UnreadableMessageError):
        decode(OrderPlaced, body, 1)
    readable(body, OrderPlaced)
    readable(body, StockMoved)


def test_fields_that_are_unknown_are_ignored_so_that_senders_may_deploy_first() -> None:
    assert decode(OrderPlaced, b'{"number": 1, "colour": "red"}', 1) == OrderPlaced(1)


def test_a_newer_version_is_read_if_it_can_be_and_named_if_it_cannot() -> None:
    assert decode(OrderPlaced, b'{"number": 1, "new": 2}', 4) == OrderPlaced(1)
    with pytest.raises(UnreadableMessageError, match="version 4 is newer than 1"):
        decode(OrderPlaced, b'{"amount": 1}', 4)


def test_older_versions_are_lifted_step_by_step() -> None:
    assert decode(Order, b'{"price": "1.50"}', 1) == Order(150, "EUR")
    assert decode(Order, b'{"cents": 7}', 2) == Order(7, "EUR")
    assert decode(Order, b'{"cents": 7, "currency": "USD"}', 3) == Order(7, "USD")


@pytest.mark.parametrize("body", [b'{"price": "much"}', b"{}", b"[]", b'"x"', b"7"])
def test_what_an_upcaster_cannot_lift_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessageError):
        decode(Order, body, 1)


def test_a_gap_in_the_chain_is_named() -> None:
    assert missing_upcasts(Gap) == [3, 4]
    assert missing_upcasts(Order) == []
    assert missing_upcasts(OrderPlaced) == []
    with pytest.raises(UnreadableMessageError, match="nothing lifts version 3 to 4"):
        decode(Gap, b"{}", 2)


@pytest.mark.parametrize("version", [0, 1, 2, -1])
def test_an_upcaster_for_no_older_version_is_refused(version: int) -> None:
    with pytest.raises(RegistrationError, match=f"OrderPlaced has no version {version} to lift: its version is 1"):
        upcaster(OrderPlaced, from_version=version)(lambda body: body)


def test_a_body_is_readable_for_people_with_what_is_sensitive_masked() -> None:
    assert readable(b'{"sku": "a", "supplier_token": "hunter2"}', StockMoved) == {
        "sku": "a",
        "supplier_token": "********",
    }
    assert readable(b'[{"supplier_token": "hunter2"}]', StockMoved) == [{"supplier_token": "********"}]
    cut = readable(b'{"sku": "a", "supplier_token": "hunt', StockMoved)
    assert "hunt" not in cut
    assert "36 bytes, not shown" in cut
    assert readable(b'{"number": ', OrderPlaced) == '{"number": '
    assert readable(b'{"password": "x", "a": 1}', None) == {"password": "********", "a": 1}
    assert readable(msgspec.json.encode({"a": 1}), None) == {"a": 1}
