"""The scheduled tasks that code declares, by name.

A name needs the app registry, a declaration does not: what is declared early waits until the registry is ready.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.apps import apps

from koan_django.core.exceptions import RegistrationError
from koan_django.core.registry import Registry, place_of

from .triggers import Trigger

_WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One target of ``@scheduled`` with its options. ``name`` is empty until the registry is ready."""

    target: Any
    takes_run: bool
    trigger: Trigger
    name: str
    on_startup: bool
    critical: bool
    timeout: timedelta | None
    max_concurrency: int
    misfire: str


declared: Registry[Declaration] = Registry("scheduled task")
#: Names that two places define, for the system check.
conflicts: list[RegistrationError] = []
#: Declarations whose trigger cannot be, for the system check; they do not run.
broken: list[Declaration] = []
_waiting: list[Declaration] = []


def declare(declaration: Declaration) -> None:
    """Take in ``declaration``, now or as soon as names can be computed."""
    _waiting.append(declaration)
    if apps.models_ready:
        settle()


def settle() -> None:
    """Name what waits. The first place that defines a name keeps it; checks report the second, and what is broken.

    Of two triggers of one target the later counts, as after a reload, and a check reports it.
    """
    while _waiting:
        waiting = _waiting.pop(0)
        named = replace(waiting, name=waiting.name or name_of(waiting.target))
        if named.trigger.problem():
            broken.append(named)
            continue
        known = declared.get(named.name)
        if known is not None and known.target is named.target and known.trigger != named.trigger:
            conflicts.append(
                RegistrationError(
                    f"the scheduled task {named.name!r} has two triggers",
                    why=f"{place_of(named.target)} is declared twice",
                    fix="Give one of them another name=.",
                )
            )
        try:
            declared.add(named.name, named, origin=place_of(named.target))
        except RegistrationError as error:
            conflicts.append(error)


def name_of(target: Any) -> str:
    """Return ``<app label>.<name in kebab case>``; outside of any app the top package stands for the label."""
    config = apps.get_containing_app_config(target.__module__)
    label = config.label if config else target.__module__.partition(".")[0]
    return f"{label}.{kebab(target.__name__)}"


def kebab(name: str) -> str:
    """Return ``HTTPProbe`` and ``http_probe`` as ``http-probe``."""
    return _WORD_BORDER.sub("-", name).replace("_", "-").strip("-").lower()
