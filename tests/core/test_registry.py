"""Named things: one place each, reload allowed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps

import pytest

from koan_django.core.exceptions import RegistrationError
from koan_django.core.registry import Registry, caller, origin_of, place_of


@pytest.fixture
def registry() -> Registry[int]:
    return Registry("handler")


def test_a_thing_is_found_by_its_name(registry: Registry[int]) -> None:
    assert registry.add("b", 2, origin="m.b") == 2
    registry.add("a", 1, origin="m.a")
    assert (registry["a"], registry.get("b"), registry.get("c")) == (1, 2, None)
    assert registry.names() == ["a", "b"]
    assert sorted(registry) == [1, 2]
    assert (len(registry), "a" in registry, "c" in registry) == (2, True, False)


def test_the_same_place_may_define_it_again(registry: Registry[int]) -> None:
    registry.add("a", 1, origin="m.a")
    registry.add("a", 2, origin="m.a")
    assert registry["a"] == 2
    assert len(registry) == 1


def test_another_place_is_an_error_that_names_both_and_changes_nothing(registry: Registry[int]) -> None:
    registry.add("a", 1, origin="shop.handlers.a")
    with pytest.raises(RegistrationError) as caught:
        registry.add("a", 2, origin="blog.handlers.a")
    assert str(caught.value) == (
        "the handler 'a' is defined twice: shop.handlers.a and blog.handlers.a both define it. Rename one of them."
    )
    assert registry["a"] == 1


def test_an_unknown_name_is_an_error_with_a_suggestion(registry: Registry[int]) -> None:
    registry.add("thumbnail", 1, origin="m")
    with pytest.raises(RegistrationError, match="there is no handler 'thumbnial'; did you mean 'thumbnail'"):
        registry["thumbnial"]


def test_a_name_may_be_forgotten(registry: Registry[int]) -> None:
    registry.add("a", 1, origin="m.a")
    registry.remove("a")
    registry.remove("a")
    registry.add("a", 2, origin="m.other")
    assert registry["a"] == 2


def test_one_may_remove_while_walking(registry: Registry[int]) -> None:
    for number in range(5):
        registry.add(str(number), number, origin=str(number))
    for number in registry:
        registry.remove(str(number))
    assert len(registry) == 0


def test_the_origin_is_stable_and_the_caller_is_a_line() -> None:
    assert origin_of(origin_of) == "koan_django.core.registry.origin_of"
    assert origin_of(Registry.add) == "koan_django.core.registry.Registry.add"

    def ask() -> str:
        return caller()

    module, _, line = ask().rpartition(":")
    assert module == __name__
    assert int(line) > 0


def test_two_of_one_name_in_a_module_stand_in_two_places() -> None:
    def task() -> None: ...

    first = task

    def task() -> None: ...  # type: ignore[no-redef]  # what this is about

    assert origin_of(first) == origin_of(task)
    assert place_of(first) != place_of(task)
    assert place_of(task).startswith(f"{origin_of(task)}, line ")


def test_what_a_decorator_made_stands_where_its_function_does() -> None:
    def decorated(function: Callable[[], None]) -> Callable[[], None]:
        @wraps(function)
        def made() -> None: ...

        return made

    def one() -> None: ...
    def other() -> None: ...

    assert place_of(decorated(one)) == place_of(one) != place_of(decorated(other))


class Anything:
    """As a lazy proxy does."""

    def __getattr__(self, name: str) -> Anything:
        return self

    def __call__(self) -> None: ...


@pytest.mark.parametrize("target", [Registry, partial(print), 5, Anything()])
def test_what_has_no_line_stands_where_it_comes_from(target: object) -> None:
    assert place_of(target) == origin_of(target)
