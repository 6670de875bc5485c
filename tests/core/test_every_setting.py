"""No option goes unchecked: a wrong value of any of them is an error with its full path, a misspelt name one too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from django.apps import apps
from django.core import checks
from django.test import override_settings

from koan_django.core import conf

#: Django's own check of JSON columns asks the database, since 6.1 without being told which.
pytestmark = pytest.mark.django_db
#: Options that take whatever a backend's constructor takes, which the check of that backend judges.
FREE = ("KOAN['SECRETS']['PROVIDERS']['x']['OPTIONS']",)


class Odd:
    """Nothing that an option could mean."""

    def __repr__(self) -> str:
        return "<odd>"


def places(schema: type, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The keys that lead to every option; ``x`` stands for a name that the project chooses."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        at = (*keys, field.name.upper())
        yield at
        for nested, further in inside(hints[field.name]):
            yield from places(nested, at + further)


def inside(hint: Any) -> Iterator[tuple[type, tuple[str, ...]]]:
    if is_dataclass(hint):
        yield hint, ()  # type: ignore[misc]  # a class, never an instance
    elif isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        yield from ((found, ("x", *further)) for found, further in inside(get_args(hint)[1]))
    else:
        for argument in get_args(hint):
            yield from inside(argument)


def path(keys: tuple[str, ...]) -> str:
    return "KOAN" + "".join(f"[{key!r}]" for key in keys)


def nested(keys: tuple[str, ...], value: object) -> dict[str, Any]:
    first, *rest = keys
    return {first: nested(tuple(rest), value) if rest else value}


def errors(koan: Any) -> dict[str, str]:
    with override_settings(KOAN=koan):
        return {str(each.msg): each.id or "" for each in checks.run_checks() if (each.id or "").startswith("koan_")}


OPTIONS = [at for name, section in conf.declared().items() for at in places(section.schema, (name,))]


def test_there_are_options_of_every_section() -> None:
    installed = {name for name, app in conf.SECTIONS.items() if apps.is_installed(app)}
    assert {keys[0] for keys in OPTIONS} == installed


@pytest.mark.parametrize("keys", [at for at in OPTIONS if path(at) not in FREE], ids=path)
def test_a_wrong_value_is_an_error_of_its_section(keys: tuple[str, ...]) -> None:
    section = conf.declared()[keys[0]]
    with override_settings(KOAN=nested(keys, Odd())):
        assert any(error.path == path(keys) for error in section.errors())


@pytest.mark.parametrize("name", sorted(conf.declared()))
def test_the_check_of_each_section_reports_what_its_section_finds(name: str) -> None:
    at = next(keys for keys in OPTIONS if keys[0] == name)
    found = {message: id for message, id in errors(nested(at, Odd())).items() if message.startswith(path(at))}
    assert set(found.values()) == {"koan_core.E003" if name == "CORE" else f"koan_{name.lower()}.E001"}


@pytest.mark.parametrize("name", sorted(conf.declared()))
def test_a_misspelt_option_is_an_error_that_names_the_right_one(name: str) -> None:
    right = next(keys[1] for keys in OPTIONS if keys[0] == name)
    wrong = right[:-1] + "X"
    assert f"KOAN[{name!r}][{wrong!r}]: unknown option; did you mean {right!r}?" in errors({name: {wrong: 1}})
