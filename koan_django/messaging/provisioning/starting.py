"""What a worker does to the topology of a bus when it connects: as much as the option ``PROVISIONING`` allows.

It removes and changes nothing but the bindings of an earlier shape of a group, by which messages would come twice. What
stands on the broker is asked over its own connection, so that a worker needs no management API.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import DatabaseError

from koan_django.core.telemetry import emit
from koan_django.core.texts import counted
from koan_django.messaging.buses.amqp.topology import Binding
from koan_django.messaging.exceptions import TopologyError

from . import ownership
from .declaring import Declarer
from .identities import Identity, identity_of, parts_of
from .management import vhost_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from koan_django.messaging.buses.amqp.bus import AmqpBus
    from koan_django.messaging.buses.amqp.link import Link

    from .identities import Part

    Turn = Callable[[], AbstractContextManager[None]]

logger = logging.getLogger(__name__)


def provision(link: Link, bus: AmqpBus, turn: Turn) -> str:
    """Bring about what ``bus`` needs, or only look whether it is there. Return what is used although it differs.

    Raises :class:`TopologyError` when something is missing that may not be made, or stands there otherwise.
    """
    declarer, parts = Declarer(link), list(parts_of(bus.topology()))
    try:
        if not bus.options.declares:
            _verify(declarer, bus, parts)
            return ""
        drift = _make(declarer, bus, parts, _Records(bus, link.broker, turn))
        for binding in bus.topology().obsolete:  # only now: a message that comes twice is noticed, a lost one is not
            declarer.unbind(binding)
        return drift
    finally:
        declarer.close()


def _verify(declarer: Declarer, bus: AmqpBus, parts: list[Part]) -> None:
    """Look for exchanges and queues; a broker tells nobody over AMQP which bindings there are."""
    missing = [_called(part) for part in parts if not isinstance(part, Binding) and not declarer.stands(part)]
    if not missing:
        return
    mode = bus.options.provisioning
    if mode == "dry-run":
        logger.info("PROVISIONING is 'dry-run'; it would make, each with its bindings: %s", ", ".join(missing))
    raise TopologyError(
        f"the bus {bus.alias!r} lacks on its broker: {', '.join(missing)}",
        why=f"PROVISIONING is {mode!r}, so nothing is made at the start of a process",
        fix="Run `koan_topology apply`, or import what `koan_topology export` prints; it is noticed by itself.",
    )


def _make(declarer: Declarer, bus: AmqpBus, parts: list[Part], records: _Records) -> str:
    known = records.read()
    made: list[Part] = []
    refused: list[str] = []
    for part in parts:
        identity = identity_of(part)
        is_new = identity not in known and _is_new(declarer, part, known | {identity_of(each) for each in made})
        refusal = declarer.make(part)
        if refusal:
            refused.append(f"{_called(part)}: {refusal}")
        elif is_new:
            made.append(part)
    records.write(made, parts)
    if made or refused:
        emit("messaging.provisioned", bus=bus.alias, made=len(made), refused=len(refused))
    if not refused:
        return ""
    text = f"the bus {bus.alias!r} is not as it is wanted on its broker"
    if bus.options.provisioning == "create-if-missing":
        raise TopologyError(
            text,
            why="; ".join(refused),
            fix="`koan_topology plan` shows it; `koan_topology migrate` makes a queue anew and keeps its messages.",
        )
    return f"{text}: {'; '.join(refused)}"


def _is_new(declarer: Declarer, part: Part, ours: Collection[Identity]) -> bool:
    """Whether it is about to be made by us; bindings cannot be asked for, and belong to whose queue they lead to."""
    if isinstance(part, Binding):
        return Identity("queue" if part.to == "queue" else "exchange", part.destination) in ours
    return not declarer.stands(part)


def _called(part: Part) -> str:
    """Return how a part is called in a text."""
    identity = identity_of(part)
    return f"{identity.kind} {identity}"


class _Records:
    """The record of what is ours. Without a database nothing is recorded, and so nothing is ever removed."""

    def __init__(self, bus: AmqpBus, broker: str, turn: Turn) -> None:
        self._where = (bus.alias, broker, vhost_of(bus.options.url or ""))
        self._turn = turn
        self._known: frozenset[Identity] = frozenset()

    def read(self) -> frozenset[Identity]:
        try:
            with self._turn():
                self._known = ownership.owned(*self._where)
        except DatabaseError as error:
            logger.warning("What was made on the broker before cannot be looked up: %s", error)
        return self._known

    def write(self, made: list[Part], parts: list[Part]) -> None:
        try:
            with self._turn():
                ownership.record(*self._where, made)
                ownership.wanted(*self._where, parts)
        except DatabaseError as error:
            logger.warning("Not on record is %s made on the broker: %s", counted(len(made), "part"), error)
