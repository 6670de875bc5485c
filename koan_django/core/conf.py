"""The ``KOAN`` setting: one dict, a section per app, read on first use and never at import.

``AppConfig.ready()`` must not read options: a wrong one would raise before ``manage.py check`` can report it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from .options import OptionError, parse, shown
from .suggestions import did_you_mean

T = TypeVar("T")

#: The sections that exist, and the app that reads each. A name outside this table is a typing error.
SECTIONS: Mapping[str, str] = {
    "CORE": "koan_django.core",
    "SECRETS": "koan_django.secrets",
    "STORAGE": "koan_django.storage",
    "MESSAGING": "koan_django.messaging",
    "INBOX": "koan_django.inbox",
    "MEDIA": "koan_django.media",
    "SCHEDULING": "koan_django.scheduling",
}
_OVERLAYS = ("ENVIRONMENT", "ENVIRONMENTS")
#: Names the environment where the settings do not.
VARIABLE = "KOAN_ENVIRONMENT"
#: An overlay that changes one of these replaces its whole alias, or the old backend's options would leak in.
_IDENTITIES = ("BACKEND", "STORAGE", "URL")

_sections: dict[str, Section[Any]] = {}
_on_reset: list[Callable[[], None]] = []
_watching = False


class Section(Generic[T]):
    """One app's options. Calling it returns them, parsed once and kept until the settings change."""

    __slots__ = ("_value", "name", "schema")

    def __init__(self, name: str, schema: type[T]) -> None:
        self.name = name
        self.schema = schema
        self._value: T | None = None

    def __call__(self) -> T:
        """Return the options; raises ``ImproperlyConfigured`` with every error of the section."""
        if self._value is None:
            self._value = self._load()
        return self._value

    def errors(self) -> list[OptionError]:
        """Return what is wrong with the section, for a system check."""
        return self._parse()[1]

    def reset(self) -> None:
        """Forget the parsed options."""
        self._value = None

    def _load(self) -> T:
        found, errors = self._parse()
        if found is None or errors:
            from django.core.exceptions import ImproperlyConfigured

            raise ImproperlyConfigured("\n".join(str(error) for error in errors))
        return found

    def _parse(self) -> tuple[T | None, list[OptionError]]:
        errors: list[OptionError] = []
        whole = effective(_setting(), errors)
        found = parse(self.schema, whole.get(self.name, {}), f"KOAN[{self.name!r}]", errors)
        return found, errors


def section(name: str, schema: type[T]) -> Section[T]:
    """Declare the section ``name``, read as the frozen dataclass ``schema``."""
    if name not in SECTIONS:
        raise ValueError(f"{name!r} is not a section of KOAN{did_you_mean(name, SECTIONS)}")
    declared = Section(name, schema)
    _sections[name] = declared
    return declared


def on_reset(callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback`` whenever ``KOAN`` changes (in tests), after the sections were reset."""
    _on_reset.append(callback)
    return callback


def environment_name(koan: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Return the name of the environment whose overlay counts, if any, and where it is set.

    ``KOAN["ENVIRONMENT"]`` wins over the variable ``KOAN_ENVIRONMENT``.
    """
    name = (_setting() if koan is None else koan).get("ENVIRONMENT")
    if name is not None:
        return name, "KOAN['ENVIRONMENT']"
    return os.environ.get(VARIABLE) or None, VARIABLE


def effective(koan: Mapping[str, Any], errors: list[OptionError] | None = None) -> Mapping[str, Any]:
    """Return ``koan`` with the overlay of its environment merged in."""
    overlay, error = _overlay(koan)
    if error is not None and errors is not None:
        errors.append(error)
    return merge(base(koan), overlay)


def base(koan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of ``koan``, without any overlay."""
    return {key: value for key, value in koan.items() if key not in _OVERLAYS}


def dormant(koan: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the environments whose overlays do not count here, each with what ``koan`` would be there."""
    overlays = koan.get("ENVIRONMENTS", {})
    name, _ = environment_name(koan)
    for other, overlay in overlays.items() if isinstance(overlays, Mapping) else ():
        if other != name and isinstance(overlay, Mapping):
            yield str(other), merge(base(koan), overlay)


def _overlay(koan: Mapping[str, Any]) -> tuple[Mapping[str, Any], OptionError | None]:
    """The overlay that counts, empty where there is none or it is wrong, and what is wrong."""
    name, origin = environment_name(koan)
    overlays = koan.get("ENVIRONMENTS", {})
    if not isinstance(overlays, Mapping):
        return {}, OptionError("KOAN['ENVIRONMENTS']", f"{shown(overlays)} is not a dict")
    if name is None:
        return {}, None
    if not isinstance(name, str):
        return {}, OptionError(origin, f"{name!r} is not text")
    if overlays and name not in overlays:
        return {}, OptionError(origin, f"{name!r} is not in KOAN['ENVIRONMENTS']{did_you_mean(name, overlays)}")
    found = overlays.get(name, {})
    if not isinstance(found, Mapping):
        return {}, OptionError(f"KOAN['ENVIRONMENTS'][{name!r}]", f"{shown(found)} is not a dict")
    return found, None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` merged in: dicts merge, everything else replaces.

    Where ``over`` gives an alias another backend, storage or URL, it replaces that alias whole.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and not _is_replaced(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def _is_replaced(below: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return any(name in over and over[name] != below.get(name, over[name]) for name in _IDENTITIES)


def declared() -> Mapping[str, Section[Any]]:
    """Return the sections of the installed apps, by name."""
    return _sections


def current() -> Mapping[str, Any]:
    """Return ``settings.KOAN`` as written, without overlays."""
    return _setting()


def _setting() -> Mapping[str, Any]:
    from django.conf import settings

    _watch()
    value = getattr(settings, "KOAN", {})
    if not isinstance(value, Mapping):
        from django.core.exceptions import ImproperlyConfigured

        raise ImproperlyConfigured(f"KOAN: {type(value).__name__} is not a dict")
    return value


def _watch() -> None:
    global _watching
    if not _watching:
        from django.core.signals import setting_changed

        setting_changed.connect(_changed, dispatch_uid="koan_django.core.conf")
        _watching = True


def _changed(*, setting: str, **_: object) -> None:
    if setting in ("KOAN", "STORAGES", "DATABASES", "CACHES"):
        for declared_section in _sections.values():
            declared_section.reset()
        for callback in _on_reset:
            callback()
