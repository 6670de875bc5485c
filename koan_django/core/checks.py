"""System checks of core, and of the ``KOAN`` setting as a whole. None opens a socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from . import conf, defaults, templating
from .options import parse
from .section import options
from .stores import chosen
from .suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


def check_setting(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E001: the setting or an option is wrong. W001: a section of an app that is not installed."""
    try:
        errors: list[Any] = []
        koan = conf.effective(conf.current(), errors)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="koan_core.E001")]
    found: list[CheckMessage] = [Error(str(error), id="koan_core.E001") for error in errors]
    return [*found, *(message for name in koan for message in _check_name(name))]


def _check_name(name: Any) -> Iterator[CheckMessage]:
    if name not in conf.SECTIONS:
        hint = did_you_mean(str(name), conf.SECTIONS)
        yield Error(f"KOAN[{name!r}]: unknown section{hint}", id="koan_core.E001")
    elif not apps.is_installed(conf.SECTIONS[name]):
        yield Warning(
            f"KOAN[{name!r}] is not read: {conf.SECTIONS[name]!r} is not installed",
            hint=f"Add {conf.SECTIONS[name]!r} to INSTALLED_APPS or remove the section.",
            id="koan_core.W001",
        )


def check_environments(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E004: the overlay of another environment is wrong. W002: ``KOAN_ENVIRONMENT`` is overruled."""
    try:
        koan = conf.current()
    except ImproperlyConfigured:
        return []  # check_setting reports it
    found = [message for name, whole in conf.dormant(koan) for message in _check_dormant(name, whole, koan)]
    given, (name, _) = os.environ.get(conf.VARIABLE), conf.environment_name(koan)
    if given and given != name:
        found.append(
            Warning(
                f"{conf.VARIABLE}={given} is not read: KOAN['ENVIRONMENT'] is {name!r}",
                hint="Leave ENVIRONMENT out of KOAN to choose it by the variable.",
                id="koan_core.W002",
            )
        )
    return found


def _check_dormant(name: str, whole: Mapping[str, Any], koan: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """What would be wrong in the environment ``name`` and is not wrong without it."""
    known = {str(error) for error in _errors(conf.base(koan))}
    for error in _errors(whole):
        if str(error) not in known:
            yield Error(f"In the environment {name!r}, {error}", id="koan_core.E004")


def _errors(koan: Mapping[str, Any]) -> list[Any]:
    errors: list[Any] = [
        f"KOAN[{name!r}]: unknown section{did_you_mean(str(name), conf.SECTIONS)}"
        for name in koan
        if name not in conf.SECTIONS
    ]
    for name, section in conf.declared().items():
        parse(section.schema, koan.get(name, {}), f"KOAN[{name!r}]", errors)
    return errors


def check_deployment(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W003: the default database is SQLite."""
    if settings.DATABASES.get("default", {}).get("ENGINE") != "django.db.backends.sqlite3":
        return []
    return defaults.in_force(
        "the default database is SQLite, where one process at a time writes",
        instead="Use PostgreSQL.",
        id="koan_core.W003",
    )


def check_stores(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E020: a store of health facts, leases or breakers cannot be made of what the settings say."""
    errors: list[str] = []
    try:
        for kind in chosen.KINDS:
            chosen.make(kind, errors)
    except ImproperlyConfigured:
        return []  # check_options reports it
    hint = "Name a store class by its dotted path, with the OPTIONS that it takes."
    return [Error(error, hint=hint, id="koan_core.E020") for error in errors]


def check_references(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E005: a reference in the setting is of a kind that no installed app resolves."""
    try:
        koan = conf.effective(conf.current(), [])
    except ImproperlyConfigured:
        return []  # check_setting reports it
    read = [name for name in koan if name in conf.SECTIONS and apps.is_installed(conf.SECTIONS[name])]
    return [
        Error(
            f"{path} holds a reference of the kind {kind!r}, which nothing resolves",
            hint="Add 'koan_django.secrets' to INSTALLED_APPS; the one kind that it resolves is 'secret'.",
            id="koan_core.E005",
        )
        for name in read
        for path, text in _texts(koan[name], f"KOAN[{name!r}]")
        for kind in templating.unresolved(text)
    ]


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")


def section_check(section: conf.Section[Any], check_id: str) -> Callable[..., Sequence[CheckMessage]]:
    """Return a check that turns each error of ``section`` into one message with ``check_id``."""

    def check(app_configs: object, **kwargs: object) -> list[CheckMessage]:
        try:
            own = f"KOAN[{section.name!r}]"
            return [Error(str(e), id=check_id) for e in section.errors() if e.path.startswith(own)]
        except ImproperlyConfigured:
            return []  # check_setting reports it

    return check


#: Made once: it stands for itself in Django's registry.
check_options = section_check(options, "koan_core.E003")


def check_audit_key(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W010, ``--deploy``: whoever may write to the database can seal a chain of audit events of their own."""
    try:
        if options().audit.key:
            return []
    except ImproperlyConfigured:
        return []  # check_options reports it
    key = "'{{secret:app/audit-key}}'"
    instead = f"Set KOAN['CORE']['AUDIT']['KEY'] to a secret reference such as {key}."
    return defaults.in_force("the audit events are sealed without a key.", instead=instead, id="koan_core.W010")


def register_all() -> None:
    """Register core's own checks."""
    for check in (check_setting, check_environments, check_options, check_references, check_stores):
        register(check)
    register(check_deployment, deploy=True)
    register(check_audit_key, deploy=True)
