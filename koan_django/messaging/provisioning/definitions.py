"""A topology as the definitions that RabbitMQ imports.

https://www.rabbitmq.com/docs/definitions
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from koan_django.messaging.buses.amqp.topology import Topology

    from .management import Management

Definitions = dict[str, list[dict[str, Any]]]


def definitions(wanted: Iterable[tuple[str, Topology]], policies: Iterable[Mapping[str, Any]] = ()) -> Definitions:
    """Return the virtual hosts and what must stand in each, sorted: the same topology is the same document."""
    pairs = list(wanted)
    return {
        "vhosts": _sorted({"name": vhost} for vhost, _ in pairs),
        "policies": _sorted(dict(policy) for policy in policies),
        "exchanges": _sorted(
            {
                "name": exchange.name,
                "vhost": vhost,
                "type": exchange.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": dict(exchange.arguments),
            }
            for vhost, topology in pairs
            for exchange in topology.exchanges
        ),
        "queues": _sorted(
            {
                "name": queue.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for vhost, topology in pairs
            for queue in topology.queues
        ),
        "bindings": _sorted(
            {
                "source": binding.source,
                "vhost": vhost,
                "destination": binding.destination,
                "destination_type": binding.to,
                "routing_key": binding.key,
                "arguments": dict(binding.arguments),
            }
            for vhost, topology in pairs
            for binding in topology.bindings
        ),
    }


def policies_on(management: Management, vhost: str, topology: Topology) -> list[dict[str, Any]]:
    """Return the policies of a broker that apply to one of the names of ``topology``."""
    names = [each.name for each in topology.exchanges] + [each.name for each in topology.queues]
    keys = ("vhost", "name", "pattern", "apply-to", "definition", "priority")
    found = [{key: each[key] for key in keys} for each in management.get("policies", vhost)]
    return [each for each in found if any(re.search(each["pattern"], name) for name in names)]


def _sorted(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once, in an order that depends on nothing but themselves."""
    by_text = {_text(each): each for each in found}
    return [by_text[text] for text in sorted(by_text)]


def _text(each: Mapping[str, Any]) -> str:
    head = [str(each.get(key, "")) for key in ("vhost", "source", "destination", "name", "routing_key")]
    return "\0".join([*head, repr(sorted(each.items(), key=lambda item: item[0]))])
