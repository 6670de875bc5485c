"""The options of discovery, a part of ``KOAN["INBOX"]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta

from koan_django.core.context import tenant
from koan_django.core.keys import KEY_LENGTH
from koan_django.core.options import shown
from koan_django.core.templating import has_reference

from .addresses import AddressError, checked

#: While a key rotates there are two.
MOST_KEYS = 8
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
STORE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceOptions:
    """A service of this project, as others are to find it. ``url`` is what stands before ``v1/inbox``."""

    name: str
    url: str
    #: What the service remembers in. Those that say the same have one memory; without it each has its own.
    store: str = ""
    #: Of several services with one memory the highest is asked.
    priority: int = 0

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            raise ValueError(f"NAME: {shown(self.name)} must be letters, digits, '_' and '-', at most 64")
        try:
            checked(self.url)
        except AddressError as error:
            raise ValueError(f"URL {error}") from None
        if self.store and STORE.fullmatch(self.store) is None:
            raise ValueError("STORE must be letters, digits, '.', '_', ':', '/' and '-', at most 128")
        if not -1000 <= self.priority <= 1000:
            raise ValueError("PRIORITY must be between -1000 and 1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryOptions:
    """How services are found. Services and clients have the bus, its ``PREFIX``, the keys and the tenant in common."""

    #: The alias of a bus on RabbitMQ; without it, the default bus.
    bus: str = ""
    #: They sign what is said, the first of them; each may hold secret references, resolved whenever it is used.
    keys: tuple[str, ...] = field(default=(), repr=False)
    #: Who shares the services: those of other tenants are not heard.
    tenant: str = ""
    #: The hosts that a service may be at, as in Django's ``ALLOWED_HOSTS``; without it any.
    hosts: tuple[str, ...] = ()
    #: For how long to look for a service, and after the first one for a better one.
    timeout: timedelta = timedelta(seconds=3)
    selection_wait: timedelta = timedelta(milliseconds=150)
    #: For how long a question and its answers are good.
    expiry: timedelta = timedelta(seconds=2)
    #: For how long a service that was found is asked without looking again, unless it fails.
    cache: timedelta = timedelta(minutes=5)
    #: How far the clocks of two machines may be apart.
    clock_skew: timedelta = timedelta(seconds=30)
    announce: AnnounceOptions | None = None

    def __post_init__(self) -> None:
        if len(self.keys) > MOST_KEYS:
            raise ValueError(f"KEYS must be at most {MOST_KEYS}: each is tried on whatever is heard")
        if any(not has_reference(key) and len(key) < KEY_LENGTH for key in self.keys):
            raise ValueError(f"KEYS must have at least {KEY_LENGTH} characters each")
        if any(not host or "/" in host or (":" in host and not host.startswith("[")) for host in self.hosts):
            raise ValueError(
                "HOSTS must be hosts such as 'inbox.example.net' or '.example.net', without scheme and port"
            )
        if self.announce is not None:
            try:
                checked(self.announce.url, self.hosts)
            except AddressError as error:
                raise ValueError(f"URL of ANNOUNCE {error}") from None
        if self.tenant and not tenant.is_valid(self.tenant):
            raise ValueError(f"TENANT: {shown(self.tenant)} can be no tenant's name")
        if not timedelta(milliseconds=500) <= self.timeout <= timedelta(seconds=30):
            raise ValueError("TIMEOUT must be between 500 ms and 30 s")
        if not timedelta(0) <= self.selection_wait < self.timeout:
            raise ValueError("SELECTION_WAIT must be shorter than TIMEOUT")
        if not timedelta(milliseconds=500) <= self.expiry <= timedelta(seconds=30):
            raise ValueError("EXPIRY must be between 500 ms and 30 s")
        if not timedelta(seconds=1) <= self.cache <= timedelta(hours=1):
            raise ValueError("CACHE must be between 1 s and 1 h")
        if not timedelta(0) <= self.clock_skew <= timedelta(minutes=5):
            raise ValueError("CLOCK_SKEW must be between 0 and 5 min")
