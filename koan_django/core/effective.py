"""The options in force, each with where it comes from. No value of a secret is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import Error

from . import conf
from .redaction import MASK, is_sensitive, redact
from .registry import Registry, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT, SETTINGS = "default", "KOAN"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value in force. ``origin``: the default, ``KOAN``, an overlay, an environment variable or a policy row."""

    path: str
    value: str
    origin: str


Source = Callable[[], Iterable[Setting]]
_sources: Registry[Source] = Registry("source of settings")


def source(name: str) -> Callable[[Source], Source]:
    """Ask the function for values that do not stand in ``KOAN``, or for better ones of paths that do."""

    def decorate(function: Source) -> Source:
        return _sources.add(name, function, origin=place_of(function))

    return decorate


def settings() -> list[Setting]:
    """Return every option of the installed apps, the environment, and what the sources add.

    Raises ``ImproperlyConfigured`` for a section that is wrong.
    """
    name, variable = conf.environment_name()
    came_from = SETTINGS if variable != conf.VARIABLE else of_variable(variable)
    found = {at("ENVIRONMENT"): Setting(at("ENVIRONMENT"), str(name), DEFAULT if name is None else came_from)}
    for section_name, section in conf.declared().items():
        if apps.is_installed(conf.SECTIONS[section_name]):
            found.update((each.path, each) for each in _walk(section(), (section_name,)))
    for source_name in _sources.names():
        found.update((each.path, each) for each in _ask(source_name))
    return list(found.values())


def _ask(name: str) -> list[Setting]:
    try:
        return list(_sources[name]())
    except Error as error:  # the rest is known all the same
        return [Setting(name, f"unknown: {type(error).__name__}", "policy row")]


def at(*keys: str) -> str:
    """Return the path of an option: ``KOAN['MESSAGING']['DEFAULT_BUS']``."""
    return "KOAN" + "".join(f"[{key!r}]" for key in keys)


def _walk(options: Any, keys: tuple[str, ...]) -> Iterator[Setting]:
    for field in fields(options):
        value, here = getattr(options, field.name), (*keys, field.name.upper())
        if is_dataclass(value):
            yield from _walk(value, here)
        elif isinstance(value, Mapping) and value and all(map(is_dataclass, value.values())):
            for name, each in value.items():
                yield from _walk(each, (*here, name))
        else:
            hidden = (not field.repr or is_sensitive(field.name)) and bool(value)
            yield Setting(at(*here), MASK if hidden else _shown(value), origin(*here))


def origin(*keys: str) -> str:
    """Return where the option at ``keys`` is set."""
    koan = conf.current()
    name, _ = conf.environment_name(koan)
    if _holds(koan.get("ENVIRONMENTS", {}), (name, *keys)):
        return f"the overlay {name!r}"
    return SETTINGS if _holds(koan, keys) else DEFAULT


def _holds(tree: Any, keys: tuple[Any, ...]) -> bool:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True


def of_variable(name: str) -> str:
    """Return the origin of what the variable ``name`` says."""
    return f"environment variable {name}"


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return str(value)
    return str(redact(dict(value) if isinstance(value, Mapping) else value))
