"""System checks of the inbox."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS

from koan_django.core.checks import section_check

from .conf import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.core.retry import RetryPolicy

check_options = section_check(options, "koan_inbox.E001")


def check_store(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: the store cannot be made of what the settings say."""
    from .stores import chosen

    errors: list[str] = []
    try:
        chosen.make(errors)
    except ImproperlyConfigured:
        return []  # check_options reports it
    hint = "Name a store, or its class by its dotted path, and in OPTIONS what that class takes."
    return [Error(error, hint=hint, id="koan_inbox.E002") for error in errors]


def check_deployment(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E003: the store ends with the process. W004: it is apart from the work, so a kill may have work done again."""
    from .stores import configured
    from .stores.memory import MemoryStore

    try:
        store = configured()
    except ImproperlyConfigured:
        return []  # the checks above report it
    found: list[CheckMessage] = []
    if isinstance(store, MemoryStore):
        found.append(
            Error(
                "The inbox remembers in the memory of each process",
                hint="A second process, and this one after a restart, handles duplicates: set KOAN['INBOX']['STORE'] to"
                " 'database' or 'redis'.",
                id="koan_inbox.E003",
            )
        )
    if not store.commits_with(DEFAULT_DB_ALIAS):
        found.append(
            Warning(
                f"The store {options().store!r} of the inbox is not in the database of the handlers",
                hint="What was committed when a worker was killed and not yet marked is done again. Set STORE to"
                " 'database' where that does harm, or silence this where it does none.",
                id="koan_inbox.W004",
            )
        )
    return found


def check_reach(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W001: a retried message may come back after the inbox has forgotten it."""
    if not apps.is_installed("koan_django.messaging"):
        return []
    try:
        retention = options().retention
        late = [(who, longest) for who, longest in _longest() if longest > retention]
    except (ImproperlyConfigured, NameError, TypeError):
        return []  # other checks report it
    return [
        Warning(
            f"The inbox forgets after {retention}, but {who} may retry for {longest}",
            hint="Raise KOAN['INBOX']['RETENTION'], or lower the attempts or delays.",
            id="koan_inbox.W001",
        )
        for who, longest in late
    ]


def _longest() -> Iterator[tuple[str, timedelta]]:
    """Yield how long each bus, and each handler with a policy of its own, may try a message again."""
    from koan_django.messaging import handlers
    from koan_django.messaging.conf import options as messaging

    buses = messaging().buses
    for alias, bus in buses.items():
        yield f"the bus {alias!r}", _length(bus.retry, bus.retry.max_attempts)
    for each in handlers.every():
        if each.bus in buses and (each.declared_retry or each.max_attempts):
            yield f"the handler {each.name}", _length(each.retry, each.attempts)


def _length(policy: RetryPolicy, attempts: int) -> timedelta:
    delays = (policy.delay(attempt) for attempt in range(2, attempts + 1))
    return sum(delays, timedelta()) * (1 + policy.jitter)
