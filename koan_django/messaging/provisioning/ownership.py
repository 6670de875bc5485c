"""Who made what on a broker. Only what is on record here is ever removed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from koan_django.core.process import identity as process_identity
from koan_django.messaging.models import TopologyObject

from .identities import Identity, canonical, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .identities import Part


def owned(bus: str, broker: str, vhost: str) -> frozenset[Identity]:
    """Return what is on record as made by us in a virtual host."""
    return frozenset(_identity(row) for row in TopologyObject.objects.of(bus, broker, vhost))


def record(bus: str, broker: str, vhost: str, parts: Iterable[Part]) -> None:
    """Put ``parts`` on record: they were made just now. What is on record already stays as it is, but for arguments."""
    rows = [_row(bus, broker, vhost, part) for part in parts]
    TopologyObject.objects.bulk_create(rows, ignore_conflicts=True)
    for row in rows:
        if row.kind != TopologyObject.Kind.BINDING:
            TopologyObject.objects.filter(digest=row.digest).update(arguments=row.arguments)


def wanted(bus: str, broker: str, vhost: str, parts: Iterable[Part]) -> None:
    """Note that ``parts`` are wanted still."""
    digests = [_digest(bus, broker, vhost, identity_of(part)) for part in parts]
    TopologyObject.objects.wanted(digests)


def forget(bus: str, broker: str, vhost: str, identities: Iterable[Identity]) -> None:
    """Take ``identities`` off the record: they are gone."""
    digests = [_digest(bus, broker, vhost, identity) for identity in identities]
    TopologyObject.objects.filter(digest__in=digests).delete()


def _row(bus: str, broker: str, vhost: str, part: Part) -> TopologyObject:
    identity = identity_of(part)
    return TopologyObject(
        bus=bus,
        broker=broker,
        vhost=vhost,
        kind=identity.kind,
        name=identity.name,
        source=identity.source,
        routing_key=identity.key,
        destination_type=identity.to,
        arguments=dict(part.arguments),
        digest=_digest(bus, broker, vhost, identity),
        created_by=process_identity(),
    )


def _identity(row: TopologyObject) -> Identity:
    if row.kind != TopologyObject.Kind.BINDING:
        return Identity(row.kind, row.name)  # type: ignore[arg-type]  # one of the choices
    return Identity("binding", row.name, row.source, row.routing_key, row.destination_type, canonical(row.arguments))


def _digest(bus: str, broker: str, vhost: str, identity: Identity) -> str:
    parts = (bus, broker, vhost, *(getattr(identity, name) for name in Identity.__slots__))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
