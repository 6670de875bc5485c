"""The store that the settings choose, made on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from koan_django.core import conf
from koan_django.core.options import OptionError, parse
from koan_django.core.suggestions import did_you_mean
from koan_django.inbox.conf import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Store

#: The stores that have a name; any other by its dotted path.
STORES: Mapping[str, str] = {
    "database": "koan_django.inbox.stores.database.DatabaseStore",
    "http": "koan_django.inbox.stores.http.HttpStore",
    "redis": "koan_django.contrib.redis.inbox.RedisInbox",
    "memory": "koan_django.inbox.stores.memory.MemoryStore",
}
_WHERE = "KOAN['INBOX']"

_made: list[Store] = []
conf.on_reset(_made.clear)


def configured() -> Store:
    """Return the store that ``KOAN["INBOX"]["STORE"]`` names; raises ``ImproperlyConfigured`` with what is wrong."""
    if not _made:
        errors: list[str] = []
        found = make(errors)
        if errors or found is None:
            raise ImproperlyConfigured("\n".join(errors))
        _made.append(found)
    return _made[0]


def make(errors: list[str]) -> Store | None:
    """Make the store anew; append what is wrong to ``errors``. Opens no socket."""
    name = options().store
    kind = _class(name, errors)
    if kind is None:
        return None
    wrong: list[OptionError] = []
    read = parse(kind.schema, options().options, f"{_WHERE}['OPTIONS']", wrong)
    errors.extend(str(error) for error in wrong)
    if read is None:
        return None
    made = cast("Store", kind(read))
    errors.extend(f"{_WHERE}: {text}" for text in made.objections())
    return made


def _class(name: str, errors: list[str]) -> Any:
    if "." not in name and name not in STORES:
        known = ", ".join(map(repr, STORES))
        errors.append(f"{_WHERE}['STORE']: {name!r} is not one of {known}{did_you_mean(name, STORES)}")
        return None
    try:
        found = import_string(STORES.get(name, name))
    except ImportError as error:
        errors.append(f"{_WHERE}['STORE']: {name}: {error}")
        return None
    if not (isinstance(found, type) and hasattr(found, "schema") and hasattr(found, "begin")):
        errors.append(f"{_WHERE}['STORE']: {name} is no store of the inbox")
        return None
    return found
