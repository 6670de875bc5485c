"""The bus that services and their clients have in common, and what they call things on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

from koan_django.core.exceptions import StoreUnavailableError
from koan_django.core.suggestions import did_you_mean
from koan_django.inbox.conf import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.messaging.buses.amqp.broadcast import Broadcast
    from koan_django.messaging.conf import BusOptions

MESSAGING = "koan_django.messaging"


def objections() -> Iterator[str]:
    """Yield why nothing can be said or heard by these settings; opens no socket."""
    if not options().discovery.keys:
        yield "KEYS is empty: nothing that is heard could be believed"
    if not apps.is_installed(MESSAGING):
        yield f"{MESSAGING!r} is not in INSTALLED_APPS: there is no bus"
        return
    from koan_django.messaging.conf import options as messaging

    buses, alias = messaging().buses, _alias()
    if alias not in buses:
        yield f"there is no bus {alias!r}{did_you_mean(alias, buses)}"
    elif not buses[alias].is_on_rabbitmq:
        yield f"the bus {alias!r} is {buses[alias].scheme}://: BUS must name one whose URL leads to RabbitMQ"
    elif buses[alias].failover:
        yield f"the bus {alias!r} is on several brokers: BUS must name one on a single one, where all of them meet"


def broadcast(purpose: str, patience: float) -> Broadcast:
    """Return what speaks and listens on the bus; raises :class:`StoreUnavailableError` where :func:`objections` are."""
    wrong = "; ".join(objections())
    if wrong:
        raise StoreUnavailableError("services of the inbox cannot be found", why=wrong, fix="Run `manage.py check`.")
    from koan_django.messaging.buses.amqp.broadcast import Broadcast

    bus = _bus()
    return Broadcast(bus.url or "", bus.prefix, purpose, patience=patience)


def pings(name: str) -> str:
    """Return the topic of questions for services called ``name``."""
    return f"ping.{options().discovery.tenant}.{name}"


def announcements(name: str) -> str:
    """Return the topic on which services called ``name`` announce themselves."""
    return f"announce.{options().discovery.tenant}.{name}"


def _alias() -> str:
    from koan_django.messaging.conf import options as messaging

    return options().discovery.bus or messaging().default_bus


def _bus() -> BusOptions:
    from koan_django.messaging.conf import options as messaging

    return messaging().buses[_alias()]
