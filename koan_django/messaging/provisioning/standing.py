"""What stands in a virtual host now, as its management API tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from koan_django.messaging.buses.amqp.topology import Binding
from koan_django.messaging.exceptions import InspectionError

if TYPE_CHECKING:
    from .management import Management


@dataclass(frozen=True, slots=True)
class StandingExchange:
    """An exchange, with what a policy adds to it."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    arguments: Mapping[str, Any]
    policy: str = ""
    policy_definition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StandingQueue:
    """A queue. Counts are ``None`` while the broker has not counted yet; ``stuck`` waits to be dead-lettered."""

    name: str
    type: str
    durable: bool
    auto_delete: bool
    arguments: Mapping[str, Any]
    policy: str = ""
    policy_definition: Mapping[str, Any] = field(default_factory=dict)
    messages: int | None = None
    consumers: int | None = None
    stuck: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """A virtual host: ``broker`` is the name of the cluster, which stays when it is reached by another host."""

    broker: str
    vhost: str
    exchanges: Mapping[str, StandingExchange]
    queues: Mapping[str, StandingQueue]
    bindings: tuple[Binding, ...]


def inspect(management: Management, vhost: str) -> Standing:
    """Ask what stands in ``vhost``. Raises :class:`InspectionError` when that cannot be known."""
    end = time.monotonic() + management.timeout

    def get(*parts: str) -> Any:
        """All four questions have to be answered within the time for one."""
        return replace(management, timeout=max(end - time.monotonic(), 0.01)).get(*parts)

    # Not the overview, which has the name as well: a broker under load takes seconds to count what it tells beside.
    cluster = get("cluster-name")
    exchanges, queues, bindings = get("exchanges", vhost), get("queues", vhost), get("bindings", vhost)
    try:
        return Standing(
            broker=str(cluster["name"]),
            vhost=vhost,
            exchanges={each["name"]: _exchange(each) for each in exchanges if each["name"]},
            queues={each["name"]: _queue(each) for each in queues},
            bindings=tuple(_binding(each) for each in bindings if each["source"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InspectionError(
            f"what stands on the broker is unknown: the answer of {management.place} is not that of RabbitMQ",
            why=f"{type(error).__name__}: {error}",
        ) from error


def _exchange(told: dict[str, Any]) -> StandingExchange:
    return StandingExchange(
        told["name"],
        told["type"],
        bool(told["durable"]),
        bool(told["auto_delete"]),
        dict(told["arguments"]),
        told.get("policy") or "",
        dict(told.get("effective_policy_definition") or {}),
    )


def _queue(told: dict[str, Any]) -> StandingQueue:
    arguments = dict(told["arguments"])
    return StandingQueue(
        told["name"],
        told.get("type") or arguments.get("x-queue-type", "classic"),
        bool(told["durable"]),
        bool(told["auto_delete"]),
        arguments,
        told.get("policy") or told.get("operator_policy") or "",
        dict(told.get("effective_policy_definition") or {}),
        told.get("messages"),
        told.get("consumers"),
        int(told.get("messages_dlx") or 0),
    )


def _binding(told: dict[str, Any]) -> Binding:
    to = "exchange" if told["destination_type"] == "exchange" else "queue"
    return Binding(told["source"], told["destination"], told["routing_key"], dict(told["arguments"]), to)  # type: ignore[arg-type]  # one of the two
