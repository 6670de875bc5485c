"""Declaring handlers, and who receives what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial, wraps
from typing import Any, Generic, TypeVar

import pytest

from koan_django.core.exceptions import RegistrationError
from koan_django.messaging import Context, Envelope, Message, handler, handlers
from koan_django.messaging import messages as registered
from koan_django.messaging.handling.limits import Limits
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPaid, OrderPlaced, listening

T = TypeVar("T")


def plain(message: OrderPlaced) -> None: ...
def with_context(message: OrderPlaced, context: Context) -> None: ...
def with_default(message: OrderPlaced, context: Context | None = None) -> None: ...
def nothing() -> None: ...
def three(message: OrderPlaced, context: Context, more: int) -> None: ...
def any_number(*messages: OrderPlaced) -> None: ...
def keyword(message: OrderPlaced, *, level: int) -> None: ...
def optional_keyword(message: OrderPlaced, *, level: int = 1) -> None: ...
def swapped(context: Context, message: OrderPlaced) -> None: ...
def of_a_number(message: int) -> None: ...
def of_another(message: OrderPaid) -> None: ...
def of_an_envelope(message: Envelope) -> None: ...
def of_any(message: Any) -> None: ...
def of_the_base(message: Message) -> None: ...
def of_either(message: OrderPlaced | OrderPaid) -> None: ...
def of_what_is_not_there(message: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def of_one(message: OrderPlaced) -> None: ...
def of_many(messages: list[OrderPlaced]) -> None: ...


def generator(message: OrderPlaced) -> Iterator[int]:
    yield 1


async def async_generator(message: OrderPlaced) -> AsyncIterator[int]:
    yield 1


class Class:
    def __init__(self, message: OrderPlaced) -> None: ...

    def method(self, message: OrderPlaced) -> None: ...


class Abstract(Message):
    class Meta:
        abstract = True


class Generic_(Message, Generic[T]):
    value: T

    class Meta:
        alias = "tests.generic"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Forget what the test declares."""
    before = dict(handlers._handlers)
    yield
    handlers._handlers.clear()
    handlers._handlers.update(before)


@pytest.fixture(scope="module", autouse=True)
def no_generic_message() -> Iterator[None]:
    yield
    registered._classes.pop(f"{__name__}.Generic_", None)


@pytest.mark.parametrize(
    ("function", "takes_context"),
    [(plain, False), (with_context, True), (with_default, True), (optional_keyword, False), (partial(plain), False)],
)
def test_a_handler_takes_the_message_or_the_message_and_its_context(function: Any, takes_context: bool) -> None:
    assert handler(OrderPlaced, name="tests.one")(function) is function
    assert handlers._handlers["tests.one"].takes_context is takes_context


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nothing, "it takes 0 arguments"),
        (three, "it takes 3 arguments"),
        (any_number, "it takes 0 arguments"),
        (keyword, "nobody gives it the argument 'level'"),
        (generator, "it is a generator: calling it would run nothing"),
        (async_generator, "it is a generator"),
        (Class, "it is not a function"),
        ("plain", "it is not a function"),
        (Class.method, "it is a method: its first argument would be the message, and not self"),
        (swapped, "its first argument is the message, and the context the second: 'context' is annotated with Context"),
        (of_a_number, "'message' is annotated with int, and it is given OrderPlaced"),
        (of_another, "'message' is annotated with OrderPaid, and it is given OrderPlaced"),
        (of_an_envelope, "'message' is annotated with Envelope, and it is given OrderPlaced"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_is_declared(function: Any, expected: str) -> None:
    with pytest.raises(RegistrationError, match=f"cannot be a handler: {expected}"):
        handler(OrderPlaced, name="tests.one")(function)
    assert "tests.one" not in handlers._handlers


@pytest.mark.parametrize(
    ("message", "function"),
    [
        (OrderPlaced, of_any),
        (OrderPlaced, of_the_base),
        (OrderPlaced, of_either),
        (OrderPlaced, of_what_is_not_there),
        ("order.*", of_an_envelope),
    ],
)
def test_an_annotation_that_may_be_right_is_accepted(message: Any, function: Any) -> None:
    assert handler(message, name="tests.one")(function) is function


def test_a_list_and_one_message_are_told_apart() -> None:
    assert handler(OrderPlaced, name="tests.one", batch=5)(of_many) is of_many
    with pytest.raises(RegistrationError, match="with batch= it is given a list, and 'message' is annotated with Orde"):
        handler(OrderPlaced, name="tests.two", batch=5)(of_one)
    with pytest.raises(RegistrationError, match="'message' is annotated with OrderPlaced, and it is given Envelope"):
        handler("order.*", name="tests.two")(of_one)


def test_the_decorator_without_its_message_says_what_to_write() -> None:
    with pytest.raises(RegistrationError, match=r"plain cannot be a handler: .* Write @handler\(OrderPaid, group="):
        handler(plain)  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", ["3s", True, object()])
def test_a_limit_that_is_no_time_is_refused(limit: Any) -> None:
    for option in ("time_limit", "soft_time_limit"):
        with pytest.raises(RegistrationError, match=r"is no time limit\. Give seconds as a number, or a timedelta"):
            handler(OrderPlaced, **{option: limit})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Abstract, "Abstract is abstract"),
        (Message, "Message is abstract"),
        (Generic_[int], "neither a message class nor a pattern"),
        (int, "neither a message class nor a pattern"),
        (OrderPlaced(1), "neither a message class nor a pattern"),
        ("", "'' is not a pattern"),
        ("order..placed", "is not a pattern"),
        ("order.pla*", "is not a pattern"),
        ("order placed", "is not a pattern"),
    ],
)
def test_what_cannot_be_received_is_refused(message: Any, expected: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        handler(message)(plain)
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"group": ""}, "the group '' is not usable"),
        ({"group": "a.b"}, "is not usable in a queue name"),
        ({"group": "x" * 65}, "is not usable in a queue name"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": 5, "atomic": False}, "a batch is one transaction"),
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"name": "x" * 256}, "its name has 256 characters"),
        ({"time_limit": 0}, "a time limit must be above 0"),
        ({"soft_time_limit": timedelta(seconds=-1)}, "a time limit must be above 0"),
        ({"time_limit": 30, "soft_time_limit": timedelta(seconds=30)}, "must be shorter than time_limit"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        handler(OrderPlaced, **options)(plain)
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("bus", "own", "expected"),
    [
        ({}, {}, Limits()),
        ({}, {"time_limit": 30, "soft_time_limit": timedelta(minutes=0.4)}, Limits(24, 30)),
        ({"TIME_LIMIT": "1m", "SOFT_TIME_LIMIT": 50}, {}, Limits(50, 60)),
        ({"TIME_LIMIT": "1m", "SOFT_TIME_LIMIT": 50}, {"soft_time_limit": 5}, Limits(5, 60)),
        ({"TIME_LIMIT": "1m", "SOFT_TIME_LIMIT": 50}, {"time_limit": 30}, Limits(None, 30)),
    ],
    ids=["none", "own", "bus", "soft", "hard"],
)
def test_a_handler_has_its_own_time_limits_or_those_of_its_bus(
    bus: dict[str, Any], own: dict[str, Any], expected: Limits
) -> None:
    handler(OrderPlaced, name="tests.one", **own)(plain)
    with override_koan(MESSAGING={"BUSES": {"main": bus}}):
        assert handlers._handlers["tests.one"].limits == expected


def test_two_functions_of_one_name_are_refused_and_a_reload_is_not() -> None:
    def loaded() -> Callable[[OrderPlaced], None]:
        def take(message: OrderPlaced) -> None: ...

        return take

    handler(OrderPlaced, name="tests.one")(loaded())
    handler(OrderPlaced, name="tests.one", group="other")(loaded())
    assert handlers._handlers["tests.one"].group == "other"
    with pytest.raises(
        RegistrationError, match=r"two handlers are called 'tests\.one'.*take, line .* and .*plain, line"
    ):
        handler(OrderPlaced, name="tests.one")(plain)


def test_two_functions_of_one_name_in_a_module_are_refused() -> None:
    """The second hides the first, which would never run, and its messages would be lost to this group."""

    def take(message: OrderPlaced) -> None: ...

    handler(OrderPlaced)(take)

    def take(message: OrderPaid) -> None: ...  # type: ignore[no-redef]  # what this is about

    with pytest.raises(RegistrationError, match=r"two handlers are called .*take, line \d+ and .*take, line") as told:
        handler(OrderPaid)(take)
    assert "Give one of them another name" in str(told.value)


def test_two_that_a_decorator_has_given_one_name_are_refused() -> None:
    def careless(function: Callable[[Any], None]) -> Callable[[Any], None]:
        def inner(message: Any) -> None:
            function(message)

        return inner

    handler(OrderPlaced)(careless(plain))
    with pytest.raises(RegistrationError, match="two handlers are called"):
        handler(OrderPaid)(careless(plain))


@pytest.mark.parametrize(
    ("message", "others"),
    [(OrderPaid, {}), ("order.*", {}), (OrderPlaced, {"group": "g"}), (OrderPlaced, {"bus": "b"})],
    ids=["message", "pattern", "group", "bus"],
)
def test_one_function_for_two_things_needs_two_names(message: Any, others: dict[str, str]) -> None:
    class Taking:
        def take(self, message: Any) -> None: ...

    function = Taking().take  # of which Python makes another each time
    handler(OrderPlaced)(function)
    with pytest.raises(RegistrationError, match=r"take' is declared twice.*Give one of the two declarations a name="):
        handler(message, **others)(function.__self__.take)  # type: ignore[attr-defined]
    handler(message, **others, name="tests.one")(function)
    assert {"tests.one", f"{__name__}.{Taking.take.__qualname__}"} <= handlers._handlers.keys()


def test_a_handler_says_where_it_belongs() -> None:
    handler(OrderPlaced)(plain)
    handler(OrderPlaced, group="g", bus="b", max_attempts=9, name="n")(with_context)
    one, other = handlers.every()[-2:]
    assert (one.name, one.group, one.bus, one.attempts, one.pinned) == (
        f"{__name__}.plain",
        "workers",
        "main",
        5,
        False,
    )
    assert (other.name, other.group, other.bus, other.max_attempts, other.pinned) == ("n", "g", "b", 9, True)


def test_within_a_group_the_class_wins_and_then_the_more_specific_pattern() -> None:
    def named(name: str) -> Callable[[Any], None]:
        return handler(name.partition(":")[2], group="g", name=name)(lambda envelope: None)

    for name in ("4:#", "3:order.#", "2:order.*", "1:order.placed"):
        named(name)
    names = []
    for winner in ("class", "1:order.placed", "2:order.*", "3:order.#", "4:#"):
        if winner == "class":
            handler(OrderPaid, group="g", name="other-class")(lambda message: None)
        found = handlers.find("main", "g", "order.placed")
        names.append(found and found.name)
        handlers.forget(winner)
    assert names[1:] == ["1:order.placed", "2:order.*", "3:order.#", "4:#"]
    assert handlers.find("main", "g", "order.paid").name == "other-class"  # type: ignore[union-attr]
    assert handlers.find("main", "g", "stock.moved") is None
    assert handlers.find("main", "nobody", "order.placed") is None


def test_each_group_that_receives_an_alias_is_named_once() -> None:
    with (
        listening(OrderPlaced, group="a"),
        listening("order.*", group="a"),
        listening("#", group="b"),
        listening(OrderPaid, group="c"),
        listening(OrderPlaced, group="d", bus="elsewhere"),
    ):
        assert handlers.groups_for("main", "order.placed") == ["a", "b"]
        assert set(handlers.on_bus("main")) == {"a", "b", "c"}


def test_a_wrapped_function_keeps_its_arguments() -> None:
    @wraps(with_context)
    def wrapped(*args: Any) -> None: ...

    handler(OrderPlaced, name="tests.one")(wrapped)
    assert handlers._handlers["tests.one"].takes_context
