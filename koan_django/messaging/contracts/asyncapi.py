"""The messages, who sends and who handles them, as a document of AsyncAPI 3.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from koan_django.messaging import handlers, messages
from koan_django.messaging.buses.amqp.names import Names
from koan_django.messaging.conf import options
from koan_django.messaging.envelope import (
    CAUSATION,
    CORRELATION,
    IDEMPOTENCY_KEY,
    PARTITION_KEY,
    SENT_AT,
    TENANT,
    VERSION,
)

from .schemas import schema_of

if TYPE_CHECKING:
    from koan_django.messaging.messages import Message

_HEADERS = {
    VERSION: "version of the body",
    SENT_AT: "when it was sent, ISO 8601, by the sender's clock",
    CORRELATION: "id of the story it belongs to; absent where it begins one, which has its own id",
    CAUSATION: "id of the message whose handler sent it",
    TENANT: "in whose name it was sent",
    IDEMPOTENCY_KEY: "what makes a duplicate",
    PARTITION_KEY: "messages with the same value stay in order",
}


def document(title: str, version: str) -> dict[str, Any]:
    """Return the document. It names no server: addresses and credentials belong to the deployment."""
    classes = {cls._meta.alias: cls for cls in messages.classes()}
    aliases = sorted(classes)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": {alias: _channel(classes[alias]) for alias in aliases},
        "operations": {**{f"send.{alias}": _operation("send", alias) for alias in aliases}, **_receiving(aliases)},
        "components": {"messages": {alias: _message(classes[alias]) for alias in aliases}},
    }


def _channel(cls: type[Message]) -> dict[str, Any]:
    alias = cls._meta.alias
    bus = options().buses.get(cls._meta.bus or options().default_bus)
    exchange = Names(bus.prefix if bus else "koan").exchange
    return {
        "address": f"{alias}.{{partition}}",
        "parameters": {"partition": {"description": "p and the number of the partition, p where there is none"}},
        "messages": {alias: {"$ref": f"#/components/messages/{alias}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": {"name": exchange, "type": "topic", "durable": True}}},
    }


def _operation(action: str, alias: str) -> dict[str, Any]:
    channel = f"#/channels/{alias}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{alias}"}],
    }


def _receiving(aliases: list[str]) -> dict[str, Any]:
    found = {}
    for handler in sorted(handlers.every(), key=lambda each: (each.group, each.name)):
        for alias in filter(handler.receives, aliases):
            operation = _operation("receive", alias)
            operation["tags"] = [{"name": handler.group, "description": "the group"}]
            operation["summary"] = f"{handler.name} in the group {handler.group}"
            found[f"receive.{handler.group}.{handler.name}.{alias}"] = operation
    return found


def _message(cls: type[Message]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in _HEADERS.items()}
    return {
        "name": cls._meta.alias,
        "title": cls.__name__,
        "contentType": "application/json",
        "headers": {"type": "object", "properties": properties},
        "payload": schema_of(cls),
        "correlationId": {"location": f"$message.header#/{CORRELATION}"},
        "x-koan-version": cls._meta.version,
    }
