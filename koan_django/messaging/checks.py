"""System checks of messaging. None opens a socket or a database."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from enum import Enum
from itertools import combinations
from typing import TYPE_CHECKING, Any, get_args, get_origin
from uuid import UUID

import msgspec
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from koan_django.core import defaults
from koan_django.core.checks import section_check
from koan_django.core.registry import origin_of
from koan_django.core.suggestions import did_you_mean

from . import handlers, messages, requirements
from .buses import registry
from .conf import options
from .encoding import decoder, missing_upcasts
from .markers import IDEMPOTENCY, PARTITION, SENSITIVE, Header
from .masking import hints_of, markers_of
from .meta import extras_of, header_problem, idempotency_markers, top_markers
from .outgoing import databases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .messages import Message

_KEY_TYPES = (str, int, UUID, Enum)


def register_all() -> None:
    """Register the checks."""
    register(section_check(options, "koan_messaging.E001"))
    register(check_aliases)
    register(check_messages)
    register(check_handlers)
    register(check_buses)
    register(check_databases)
    register(check_sqlite, Tags.database)
    register(check_mysql, Tags.database)
    register(check_names, deploy=True)


def check_aliases(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E002: an alias is missing, not usable, or claimed by two classes."""
    found: list[CheckMessage] = []
    owners: dict[str, list[str]] = defaultdict(list)
    for cls in messages.classes():
        try:
            owners[cls._meta.alias].append(origin_of(cls))
        except ImproperlyConfigured as error:
            found.append(Error(str(error), id="koan_messaging.E002"))
        except (NameError, TypeError):
            continue  # check_messages reports it
    found += [
        Error(
            f"The alias {alias!r} belongs to {' and '.join(claimants)}",
            hint="Set Meta.alias in one of them.",
            id="koan_messaging.E002",
        )
        for alias, claimants in owners.items()
        if len(claimants) > 1
    ]
    return found


def check_messages(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E003 to E005, E008 and W001: what a message class declares cannot work."""
    found: list[CheckMessage] = []
    for cls in messages.classes():
        try:
            hints = hints_of(cls)
            decoder(cls)
        except (NameError, TypeError) as error:
            found.append(
                Error(
                    f"{origin_of(cls)} cannot be read: {error}",
                    hint="Each annotation must be importable at run time (not only under TYPE_CHECKING) and decodable.",
                    id="koan_messaging.E003",
                )
            )
            continue
        fields = {name: hints[name] for name in cls.__struct_fields__ if name in hints}
        found += _model_fields(cls, fields)
        found += _partition_keys(cls, fields)
        found += _idempotency_keys(cls, fields)
        found += _headers(cls, fields)
        found += _naive_times(cls, fields)
        for version in missing_upcasts(cls):
            found.append(
                Error(
                    f"{origin_of(cls)} has no upcaster from version {version}",
                    hint="Write one: a chain with a gap cannot lift older messages.",
                    id="koan_messaging.E005",
                )
            )
    return found


def _model_fields(cls: type[Message], fields: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, hint in fields.items():
        if any(isinstance(part, type) and issubclass(part, Model) for part in _parts(hint)):
            yield Error(
                f"{origin_of(cls)}.{name} is annotated with a model",
                hint="A row cannot travel in a message: send its primary key.",
                id="koan_messaging.E003",
            )


def _partition_keys(cls: type[Message], fields: dict[str, Any]) -> Iterator[CheckMessage]:
    marked = [name for name, hint in fields.items() if PARTITION in markers_of(hint)]
    if len(marked) > 1:
        yield Error(f"{origin_of(cls)} has two partition keys: {', '.join(marked)}", id="koan_messaging.E004")
    for name in marked:
        base = _base(fields[name])
        if PARTITION not in top_markers(fields[name]) or not (isinstance(base, type) and issubclass(base, _KEY_TYPES)):
            yield Error(
                f"{origin_of(cls)}.{name} cannot be a partition key",
                hint="It must be a str, int, UUID or Enum, neither optional nor inside a container.",
                id="koan_messaging.E004",
            )


def _idempotency_keys(cls: type[Message], fields: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, hint in fields.items():
        if IDEMPOTENCY in markers_of(hint) - idempotency_markers(hint):
            yield Error(
                f"{origin_of(cls)}.{name} cannot be an idempotency key",
                hint="Mark the field itself, not what is inside its container.",
                id="koan_messaging.E004",
            )


def _headers(cls: type[Message], fields: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, hint in fields.items():
        for header in (extra.name for extra in extras_of(hint) if isinstance(extra, Header)):
            problem = header_problem(header)
            if SENSITIVE in markers_of(hint):
                problem = "the field is sensitive, and headers are not masked"
            if problem:
                yield Error(
                    f"{origin_of(cls)}.{name} cannot travel as the header {header!r}: {problem}",
                    id="koan_messaging.E008",
                )


def _naive_times(cls: type[Message], fields: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, hint in fields.items():
        if settings.USE_TZ and _is_naive(hint):
            yield Warning(
                f"{origin_of(cls)}.{name} accepts a datetime without a time zone",
                hint="Annotate it with koan_django.messaging.AwareDatetime.",
                id="koan_messaging.W001",
            )


def _is_naive(hint: Any) -> bool:
    if any(isinstance(extra, msgspec.Meta) and extra.tz for extra in getattr(hint, "__metadata__", ())):
        return False
    base = _base(hint)
    return base is datetime or any(_is_naive(argument) for argument in get_args(base))


def check_handlers(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E006: two handlers for one alias in a group. E007: no such bus of messages. W002: long work, no inbox."""
    try:
        known, buses = handlers.every(), options().buses
        lost = [each for each in known if each.bus not in buses]
        misled = [each for each in known if each.bus in buses and buses[each.bus].is_for_tasks]
        clashes = [pair for pair in combinations(known, 2) if handlers.overlaps(*pair)]
    except (ImproperlyConfigured, NameError, TypeError):
        return []  # reported by the checks above
    found: list[CheckMessage] = [
        Error(f"{each.origin} listens on the unknown bus {each.bus!r}", id="koan_messaging.E007") for each in lost
    ]
    found += [
        Error(f"{each.origin} listens on {each.bus!r}, which carries tasks and no messages", id="koan_messaging.E007")
        for each in misled
    ]
    found += [
        Error(
            f"{one.origin} and {other.origin} both receive {one.binding!r} in the group {one.group!r}",
            hint="Only one would be called: give one of them another group.",
            id="koan_messaging.E006",
        )
        for one, other in clashes
    ]
    if not apps.is_installed("koan_django.inbox"):
        found += [
            Warning(
                f"{each.origin} has atomic=False and there is no inbox",
                hint="Add 'koan_django.inbox' to INSTALLED_APPS, or be ready for the same message twice.",
                id="koan_messaging.W002",
            )
            for each in known
            if not each.atomic
        ]
    return found


def check_buses(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E009: a bus cannot do what is asked of it. E010: it cannot be made. W003: a message wants to stay in order."""
    try:
        default, buses = options().default_bus, options().buses
    except ImproperlyConfigured:
        return []
    found = list(_unusable(buses))
    return found or [*_lacking(), *_unordered(default, buses)]


def _unusable(buses: Iterable[str]) -> Iterator[CheckMessage]:
    for alias in buses:
        try:
            registry.get(alias)
        except (ImproperlyConfigured, ImportError) as error:
            yield Error(f"The bus {alias!r} cannot be used: {error}", id="koan_messaging.E010")


def _lacking() -> Iterator[CheckMessage]:
    with suppress(ImproperlyConfigured, NameError, TypeError):  # reported by the checks of messages
        for demand in requirements.unmet():
            yield Error(str(demand), hint=demand.fix, id="koan_messaging.E009")


def _unordered(default: str, buses: Iterable[str]) -> list[CheckMessage]:
    try:
        keyed = [cls for cls in messages.classes() if cls._meta.partition_field is not None]
        ordered = {alias: registry.get(alias).capabilities.ordered for alias in buses}
    except (ImproperlyConfigured, NameError, TypeError):
        return []
    return [
        Warning(
            f"{origin_of(cls)} has a partition key, but the bus {cls._meta.bus or default!r} does not keep order",
            hint="Handlers may see two messages of one key at the same time or swapped; make them tolerate it.",
            id="koan_messaging.W003",
        )
        for cls in keyed
        if ordered.get(cls._meta.bus or default) is False
    ]


def check_databases(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """E011: a database is to have an outbox and is not there, or is the default one and has none."""
    try:
        default, known = options().default_database, databases.every()
    except ImproperlyConfigured:
        return []
    found: list[CheckMessage] = [
        Error(
            f"OUTBOX_DATABASES names {alias!r}, which is not in DATABASES{did_you_mean(alias, settings.DATABASES)}",
            hint="List aliases of DATABASES, each with messaging's tables.",
            id="koan_messaging.E011",
        )
        for alias in known
        if alias not in settings.DATABASES
    ]
    if default is not None and default not in known:
        found.append(
            Error(
                f"DEFAULT_DATABASE is {default!r}, which has no outbox",
                hint="Add it to OUTBOX_DATABASES, or take one of " + ", ".join(map(repr, known)) + ".",
                id="koan_messaging.E011",
            )
        )
    return found


def check_sqlite(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W004: SQLite without the options that let a worker and a web process write at the same time."""
    found: list[CheckMessage] = []
    databases: dict[str, dict[str, Any]] = settings.DATABASES
    for alias, database in databases.items():
        if database.get("ENGINE") != "django.db.backends.sqlite3":
            continue
        given = database.get("OPTIONS", {})
        in_wal = "journal_mode=wal" in str(given.get("init_command", "")).replace(" ", "").lower()
        if not (in_wal and given.get("transaction_mode") == "IMMEDIATE" and given.get("timeout", 5) >= 20):
            found.append(
                Warning(
                    f"The SQLite database {alias!r} will answer 'database is locked' under a worker",
                    hint="Set OPTIONS to {'transaction_mode': 'IMMEDIATE', 'timeout': 20, 'init_command':"
                    " 'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;'}.",
                    id="koan_messaging.W004",
                )
            )
    return found


def check_mysql(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W009: MySQL with an isolation under which a transaction goes on reading what was there when it began."""
    databases: dict[str, dict[str, Any]] = settings.DATABASES
    levels = {
        alias: str(database.get("OPTIONS", {}).get("isolation_level", "read committed") or "that of the server").lower()
        for alias, database in databases.items()
        if database.get("ENGINE") == "django.db.backends.mysql"
    }
    return [
        Warning(
            f"The isolation level of the database {alias!r} is {level}",
            hint="Leave isolation_level out of its OPTIONS, or set it to 'read committed', Django's default: under"
            " another a claim may not see what a transaction beside it has just committed, and waits for its locks.",
            id="koan_messaging.W009",
        )
        for alias, level in levels.items()
        if level != "read committed"
    ]


def check_names(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """W005 to W008, for deployment: names that a refactoring would change, a bus that forgets, one that is elected."""
    try:
        floating = [cls for cls in messages.classes() if not cls._meta.pinned]
        buses = options().buses
    except (ImproperlyConfigured, NameError, TypeError):
        return []
    found: list[CheckMessage] = [
        Warning(
            f"{origin_of(cls)} has no alias of its own",
            hint=f"Pin it with Meta.alias = {cls._meta.alias!r}: renaming the class would orphan queued messages.",
            id="koan_messaging.W005",
        )
        for cls in floating
    ]
    if apps.is_installed("koan_django.inbox"):
        found += [
            Warning(
                f"{each.origin} has no name of its own",
                hint=f"Pin it with name={each.name!r}: after a rename the inbox would not know its duplicates.",
                id="koan_messaging.W006",
            )
            for each in handlers.every()
            if not each.pinned
        ]
    found += [
        Warning(
            f"The bus {alias!r} keeps its messages in memory",
            hint="They are lost when the process ends: use database:// or amqp://.",
            id="koan_messaging.W007",
        )
        for alias, bus in buses.items()
        if bus.scheme == "memory"
    ]
    if options().elected is not None:
        found += defaults.in_force(
            "no bus has a URL, so what a worker finds when it starts decides where messages go",
            instead="Set URL in KOAN['MESSAGING']['BUSES'], to database:// if that is meant.",
            id="koan_messaging.W008",
        )
    return found


def _base(hint: Any) -> Any:
    """The type behind ``Annotated``."""
    return _base(hint.__origin__) if hasattr(hint, "__metadata__") else hint


def _parts(hint: Any) -> Iterator[Any]:
    """Every type that ``hint`` is made of."""
    base = _base(hint)
    yield get_origin(base) or base
    for argument in get_args(base):
        yield from _parts(argument)
