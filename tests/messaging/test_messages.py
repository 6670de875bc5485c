"""Message classes: how they are made, what they refuse, what they show."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from django.core.exceptions import ImproperlyConfigured

from koan_django.messaging import Header, IdempotencyKey, Message, PartitionKey, Sensitive
from koan_django.messaging import messages as registered
from koan_django.messaging.meta import alias_problem
from tests.messaging.shop import OrderPaid, OrderPlaced, StockMoved


class Status(Enum):
    OPEN = "open"


class Card(msgspec.Struct, frozen=True, rename="camel"):
    holder: str
    card_number: Sensitive[str]


@dataclass(frozen=True)
class Account:
    iban: Sensitive[str]
    bank: str = "bank"


class Address(TypedDict):
    street: str
    door_code: Sensitive[str]


class Login(NamedTuple):
    user: str
    pin: Sensitive[str]


class Checkout(Message):
    number: int
    card: Card
    accounts: list[Account] = []
    address: Address | None = None
    login: Login | None = None
    tokens: list[Sensitive[str]] = []
    voucher: Sensitive[str] | None = None

    class Meta:
        alias = "tests.checkout"


class Base(Message):
    tenant: str

    class Meta:
        abstract = True
        bus = "priority"


class Child(Base):
    number: int = 0

    class Meta(Base.Meta):
        alias = "tests.child"
        version = 3


class Grandchild(Child):
    note: str = ""

    class Meta(Child.Meta):
        alias = "tests.grandchild"


class Compound(Message):
    tenant: IdempotencyKey[str]
    number: IdempotencyKey[int | None]
    status: IdempotencyKey[Status] = Status.OPEN

    class Meta:
        alias = "tests.compound"


class Optional_(Message):
    event: IdempotencyKey[str] | None = None

    class Meta:
        alias = "tests.optional"


class Routed(Message):
    key: PartitionKey[UUID]
    email: IdempotencyKey[Sensitive[str]]
    region: Annotated[str | None, Header("x-region")] = None
    day: Annotated[date, Header("x-day")] = date(2026, 1, 2)

    class Meta:
        alias = "tests.routed"


@pytest.fixture
def forgotten() -> Any:
    """Forget the classes that the test makes."""
    before = dict(registered._classes)
    yield
    registered._classes.clear()
    registered._classes.update(before)
    registered._by_alias.clear()


def test_positions_and_keywords_make_the_same_message_and_it_is_frozen() -> None:
    assert OrderPlaced(1, "x") == OrderPlaced(note="x", number=1)
    with pytest.raises(AttributeError):
        OrderPlaced(1).number = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="number"):
        OrderPlaced()  # type: ignore[call-arg]


def test_a_message_can_be_pickled_copied_and_matched() -> None:
    message = Checkout(1, Card("a", "b"))
    assert pickle.loads(pickle.dumps(message)) == copy.deepcopy(message) == copy.copy(message) == message
    assert msgspec.structs.replace(OrderPlaced(1), number=2) == OrderPlaced(2)
    match OrderPlaced(1, "x"):
        case OrderPlaced(number, note=note):
            assert (number, note) == (1, "x")


def test_policies_are_inherited_and_identities_are_not() -> None:
    assert (Child._meta.alias, Child._meta.version, Child._meta.bus) == ("tests.child", 3, "priority")
    assert (Grandchild._meta.alias, Grandchild._meta.version, Grandchild._meta.bus) == (
        "tests.grandchild",
        1,
        "priority",
    )
    assert Base not in registered.classes()
    assert Child in registered.classes()
    assert registered.by_alias("tests.child") is Child


def test_an_alias_is_made_of_the_app_and_the_class(forgotten: None) -> None:
    made: Any = type(Message)("Noted", (Message,), {"__module__": "koan_django.inbox.messages", "__annotations__": {}})
    assert made._meta.alias == "koan_inbox.Noted"
    assert not made._meta.pinned
    assert OrderPlaced._meta.pinned


def test_a_class_outside_every_app_is_told_to_name_itself_and_still_shows_itself(forgotten: None) -> None:
    class Homeless(Message):
        password: Sensitive[str]

    with pytest.raises(ImproperlyConfigured, match=r"Homeless is in no installed app: set Meta\.alias"):
        _ = Homeless._meta
    assert repr(Homeless("hunter2")) == "Homeless(password=********)"
    assert registered.by_alias("order.placed") is OrderPlaced  # others are not held up


def test_a_class_whose_types_are_unknown_shows_nothing_of_itself(forgotten: None) -> None:
    made: Any = type(Message)("Odd", (Message,), {"__module__": __name__, "__annotations__": {"x": "Missing"}})
    assert repr(made("hunter2")) == "Odd(x=********)"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"aliass": "x"}, r"Bad\.Meta has no option 'aliass'; did you mean 'alias'\?"),
        ({"version": "1"}, r"Bad\.Meta\.version is '1', not a whole number from 1"),
        ({"version": 0}, "not a whole number from 1"),
        ({"version": True}, "not a whole number from 1"),
        ({"alias": 5}, r"Bad\.Meta\.alias is 5, not text"),
        ({"abstract": 1}, "not True or False"),
        ({"bus": None}, "not text"),
    ],
)
def test_a_wrong_meta_is_refused_when_the_class_is_made(
    options: dict[str, Any], expected: str, forgotten: None
) -> None:
    with pytest.raises(TypeError, match=expected):
        type(Message)("Bad", (Message,), {"Meta": type("Meta", (), options), "__annotations__": {}})


@pytest.mark.parametrize("name", ["send", "asend", "send_to", "asend_to"])
def test_a_field_that_would_hide_a_method_is_refused(name: str, forgotten: None) -> None:
    with pytest.raises(TypeError, match=rf"Bad\.{name} hides Message\.{name}; rename the field"):
        type(Message)("Bad", (Message,), {"__annotations__": {name: int}})
    renamed: Any = type(Message)(
        "Good", (Message,), {"__module__": __name__, "__annotations__": {"sent": int}, "sent": msgspec.field(name=name)}
    )
    assert msgspec.json.encode(renamed(1)) == b'{"%s":1}' % name.encode()


def test_a_message_that_could_not_grow_is_refused(forgotten: None) -> None:
    with pytest.raises(TypeError, match="array_like messages cannot gain a field"):

        class Bad(Message, array_like=True):
            number: int


@pytest.mark.parametrize(
    ("alias", "problem"),
    [
        ("order.placed", None),
        ("Order_1.placed-2", None),
        ("order.plan", None),
        ("p.order", None),
        ("order.*", "joined by dots"),
        ("order.#", "joined by dots"),
        ("order..placed", "joined by dots"),
        (".order", "joined by dots"),
        ("order placed", "joined by dots"),
        ("order.p", "looks like a partition"),
        ("order.p12", "looks like a partition"),
        ("p3", "looks like a partition"),
        ("x" * 201, "longer than 200"),
        ("x" * 200, None),
    ],
)
def test_what_may_be_an_alias(alias: str, problem: str | None) -> None:
    found = alias_problem(alias)
    assert (found is None) is (problem is None)
    assert problem is None or problem in (found or "")


def test_an_alias_that_cannot_be_one_is_refused_when_it_is_needed(forgotten: None) -> None:
    class Bad(Message):
        class Meta:
            alias = "order.*"

    with pytest.raises(ImproperlyConfigured, match=r"the alias 'order\.\*' is not usable"):
        _ = Bad._meta


def test_sensitive_values_are_masked_however_deep_they_are() -> None:
    message = Checkout(
        7,
        Card("Ada", "4111-secret"),
        accounts=[Account("DE00-secret")],
        address={"street": "Main", "door_code": "1234-secret"},
        login=Login("ada", "pin-secret"),
        tokens=["token-secret"],
        voucher="voucher-secret",
    )
    shown = repr(message)
    assert "secret" not in shown
    for visible in ("number=7", "holder='Ada'", "bank='bank'", "'street': 'Main'", "user='ada'", "tokens=********"):
        assert visible in shown
    assert shown.startswith("Checkout(number=7, card=Card(holder='Ada', card_number=********)")
    assert str(message) == shown
    assert repr(StockMoved("a", 1, "hunter2")) == "StockMoved(sku='a', count=1, supplier_token=********)"


def test_several_keys_make_one_and_different_values_never_the_same(forgotten: None) -> None:
    class Pair(Message):
        a: IdempotencyKey[str]
        b: IdempotencyKey[str]

        class Meta:
            alias = "tests.pair"

    keys = [
        Pair._meta.idempotency_key(Pair(*pair)) for pair in (("x|y", "z"), ("x", "y|z"), ('x","y', "z"), ("x", 'y","z'))
    ]
    assert len(set(keys)) == 4
    assert OrderPaid._meta.idempotency_key(OrderPaid(5)) == "5"
    assert OrderPlaced._meta.idempotency_key(OrderPlaced(5)) is None


def test_a_key_that_is_none_identifies_nothing() -> None:
    assert Optional_._meta.idempotency_key(Optional_("evt-1")) == "evt-1"
    assert Optional_._meta.idempotency_key(Optional_()) is None
    assert Compound._meta.idempotency_key(Compound("acme", 1)) == '["acme","1","open"]'
    assert Compound._meta.idempotency_key(Compound("acme", None)) is None


def test_keys_and_fields_travel_as_headers_and_sensitive_ones_as_a_digest() -> None:
    key = UUID(int=5)
    message = Routed(key, "ada@example.com", region="eu")
    assert Routed._meta.partition_key(message) == str(key)
    assert Routed._meta.headers(message) == {"x-region": "eu", "x-day": '"2026-01-02"'}
    assert Routed._meta.headers(Routed(key, "x"))["x-day"] == '"2026-01-02"'
    assert "x-region" not in Routed._meta.headers(Routed(key, "x"))
    digest = Routed._meta.idempotency_key(message) or ""
    assert "ada" not in digest
    assert digest == Routed._meta.idempotency_key(Routed(key, "ada@example.com"))
    assert digest != Routed._meta.idempotency_key(Routed(key, "bob@example.com"))
