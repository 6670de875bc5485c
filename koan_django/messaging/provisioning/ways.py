"""Which way messages go that wait in a queue for their time to be over."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .identities import Identity
    from .standing import Standing, StandingQueue

#: The kind and the name of an exchange or a queue.
Place: TypeAlias = tuple[str, str]


class Ways:
    """The ways of everything that waits in a virtual host."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._reached = {
            name: frozenset(self._places_after(queue))
            for name, queue in standing.queues.items()
            if queue.messages != 0 or queue.stuck
        }

    def waiting_before(self, identity: Identity) -> list[str]:
        """Return the queues whose messages come through ``identity``. One not counted yet may hold some."""
        place = ("exchange", identity.source) if identity.kind == "binding" else (identity.kind, identity.name)
        return sorted(name for name, places in self._reached.items() if place in places)

    def _places_after(self, queue: StandingQueue) -> Iterator[Place]:
        found: set[Place] = set()
        todo = list(self._after_queue(queue))
        while todo:
            place = todo.pop()
            if place in found:
                continue
            found.add(place)
            yield place
            todo += self._after(place)

    def _after(self, place: Place) -> Iterator[Place]:
        """Where messages go from here by themselves. Out of the queue of a group they are taken."""
        kind, name = place
        if kind == "exchange":
            yield from self._after_exchange(name)
        elif name in self._standing.queues and "x-message-ttl" in self._standing.queues[name].arguments:
            yield from self._after_queue(self._standing.queues[name])

    def _after_queue(self, queue: StandingQueue) -> Iterator[Place]:
        given = {f"x-{key}": value for key, value in queue.policy_definition.items()} | dict(queue.arguments)
        exchange, key = given.get("x-dead-letter-exchange"), given.get("x-dead-letter-routing-key")
        if exchange:
            yield "exchange", exchange
        elif key is not None:
            yield "queue", key
        elif exchange is not None:  # back to the queue they came from: one of a group, which knows a place for its dead
            for name, each in self._standing.queues.items():
                if "x-dead-letter-routing-key" in each.arguments:
                    yield "queue", name

    def _after_exchange(self, name: str) -> Iterator[Place]:
        exchange = self._standing.exchanges.get(name)
        alternate = None if exchange is None else exchange.arguments.get("alternate-exchange")
        if alternate:
            yield "exchange", alternate
        for binding in self._standing.bindings:
            if binding.source == name:
                yield binding.to, binding.destination
