"""The configured buses of this process, made on first use."""

from __future__ import annotations

import threading
from importlib import import_module
from os import environ
from typing import TYPE_CHECKING

from koan_django.core import conf as core_conf
from koan_django.core import environment
from koan_django.core.exceptions import RegistrationError
from koan_django.core.suggestions import did_you_mean
from koan_django.messaging.candidates import brokers
from koan_django.messaging.conf import QUEUES, SCHEMES, BusOptions, options

if TYPE_CHECKING:
    from .base import Bus

_made: dict[str, Bus] = {}
_lock = threading.Lock()


def get(alias: str) -> Bus:
    """Return the bus called ``alias``; raises :class:`RegistrationError` for one that is not configured."""
    found = _made.get(alias)
    if found is None:
        with _lock:
            found = _made.get(alias) or _made.setdefault(alias, _make(alias))
    return found


def all_buses() -> list[Bus]:
    """Return every configured bus."""
    return [get(alias) for alias in options().buses]


@core_conf.on_reset
def reset() -> None:
    """Close the buses and forget them: the settings changed."""
    with _lock:
        gone = list(_made.values())
        _made.clear()
    for bus in gone:
        bus.close()


def _make(alias: str) -> Bus:
    configured = options().buses
    if alias not in configured:
        raise RegistrationError(
            f"there is no bus {alias!r}{did_you_mean(alias, configured)}",
            fix="Add it to KOAN['MESSAGING']['BUSES'].",
        )
    if alias == options().elected:
        from .elected import ElectedBus

        # A test must find no broker by accident.
        found = [] if environment.under_test() else brokers(environ, environment.current())
        return ElectedBus(alias, configured[alias], found)
    return make(alias, configured[alias])


def make(alias: str, found: BusOptions) -> Bus:
    """Return a bus by the scheme of its URL, or one on several brokers."""
    if found.failover:
        from .failover import FailoverBus

        return FailoverBus(alias, found)
    if any(place != QUEUES for place in found.tenants.values()) and found.is_on_rabbitmq:
        from .tenants import TenantsBus

        return TenantsBus(alias, found)
    module, _, name = SCHEMES[found.scheme].rpartition(".")
    made: Bus = getattr(import_module(module), name)(alias, found)
    return made
