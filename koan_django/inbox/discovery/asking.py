"""Asks on the bus which services there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from koan_django.core.context import new_id
from koan_django.inbox.conf import options

from . import bus, signing, statements
from .refusals import Refusals, RefusedError
from .selecting import select
from .statements import Ping

if TYPE_CHECKING:
    from datetime import timedelta

    from .selecting import Selection
    from .statements import Service

#: More than any name has; whoever holds a key could go on.
MOST = 64

refusals = Refusals("asking")


def ask(name: str, timeout: timedelta | None = None) -> list[Service]:
    """Return the services called ``name`` that answer, or announce themselves meanwhile; none after ``timeout``.

    After the first one others have a moment. Raises ``BusUnavailableError``, and what resolves the keys.
    """
    seconds = (timeout or options().discovery.timeout).total_seconds()
    end, found = time.monotonic() + seconds, dict[tuple[str, str], "Service"]()
    nonce, keys = new_id(), signing.keys()
    room = bus.broadcast("discovery", seconds)
    try:
        room.open([bus.announcements(name)])
        question = statements.ping(Ping(name, nonce, room.queue), keys[0])
        room.say(bus.pings(name), question, options().discovery.expiry)
        while (left := end - time.monotonic()) > 0 and len(found) < MOST:
            heard = [service for each in room.listen(left) if (service := _believed(each.body, name, nonce, keys))]
            if heard and not found:
                end = min(end, time.monotonic() + options().discovery.selection_wait.total_seconds())
            found |= {(service.url, service.store): service for service in heard}
    finally:
        room.disconnect()
    return list(found.values())


def heard(name: str, avoid: str = "") -> Selection:
    """Ask, and select among those that answer; raises what both do."""
    before = refusals.total
    services = ask(name)
    return select(name, services, avoid, unbelieved=refusals.text if refusals.total > before else "")


def _believed(body: bytes, name: str, nonce: str, keys: list[bytes]) -> Service | None:
    try:
        return statements.read_service(body, name, nonce, keys)
    except RefusedError as error:
        refusals.add(str(error))
        return None
