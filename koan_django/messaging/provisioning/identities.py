"""What makes an exchange, a queue or a binding the one it is, whatever its arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from koan_django.messaging.buses.amqp.topology import Binding, Exchange, Queue, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind: TypeAlias = Literal["exchange", "queue", "binding"]
Part: TypeAlias = Exchange | Queue | Binding


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Within a virtual host. Of a binding ``name`` is what it leads to, and its arguments belong to it."""

    kind: Kind
    name: str
    source: str = ""
    key: str = ""
    to: str = ""
    arguments: str = ""

    def __str__(self) -> str:
        return f"{self.source} → {self.name} [{self.key}]" if self.kind == "binding" else self.name


def identity_of(part: Part) -> Identity:
    """Return the identity of ``part``."""
    if isinstance(part, Binding):
        return Identity("binding", part.destination, part.source, part.key, part.to, canonical(part.arguments))
    return Identity("queue" if isinstance(part, Queue) else "exchange", part.name)


def parts_of(topology: Topology) -> Iterator[Part]:
    """Yield what ``topology`` is made of, in the order in which it can be declared, each once."""
    seen: set[Identity] = set()
    every: tuple[Part, ...] = (*topology.exchanges, *topology.queues, *topology.bindings)
    for part in every:
        identity = identity_of(part)
        if identity not in seen:
            seen.add(identity)
            yield part


def topology_of_parts(parts: list[Part]) -> Topology:
    """Return ``parts`` as a topology, in their order."""
    return Topology(
        tuple(part for part in parts if isinstance(part, Exchange)),
        tuple(part for part in parts if isinstance(part, Queue)),
        tuple(part for part in parts if isinstance(part, Binding)),
    )


def canonical(arguments: Mapping[str, Any]) -> str:
    """Return ``arguments`` as text that is the same for the same arguments; empty for none."""
    return json.dumps(arguments, sort_keys=True, default=str) if arguments else ""
