"""What a key is unique within."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """One piece of work. The bus alias stands for its whole list of brokers; the handler's name may be pinned."""

    tenant: str
    bus: str
    group: str
    handler: str
    alias: str
    key: str

    @property
    def fingerprint(self) -> str:
        """Equal scopes have equal fingerprints; the parts are too long to be unique together in every database."""
        tenant, bus, group, handler, alias, key = self.tenant, self.bus, self.group, self.handler, self.alias, self.key
        text = (  # written out: it is done for every message
            f"{len(tenant)}:{tenant}\x1f{len(bus)}:{bus}\x1f{len(group)}:{group}"
            f"\x1f{len(handler)}:{handler}\x1f{len(alias)}:{alias}\x1f{len(key)}:{key}"
        )
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
