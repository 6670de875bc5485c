"""The section ``KOAN["MESSAGING"]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from koan_django.core.conf import section
from koan_django.core.context import tenant
from koan_django.core.options import shown
from koan_django.core.retry import RetryPolicy
from koan_django.core.suggestions import did_you_mean
from koan_django.core.templating import has_reference

from .routing import partition_of

#: What :class:`~koan_django.messaging.buses.base.Capabilities` may promise.
Capability: TypeAlias = Literal[
    "transactional", "durable", "shared", "ordered", "priorities", "copies", "patterns", "isolated"
]

#: The bus of each URL scheme.
SCHEMES: Mapping[str, str] = {
    "database": "koan_django.messaging.buses.database.DatabaseBus",
    "memory": "koan_django.messaging.buses.memory.MemoryBus",
    "amqp": "koan_django.messaging.buses.amqp.AmqpBus",
    "amqps": "koan_django.messaging.buses.amqp.AmqpBus",
    "redis": "koan_django.messaging.buses.redis.RedisBus",
    "rediss": "koan_django.messaging.buses.redis.RedisBus",
    "azureservicebus": "koan_django.messaging.buses.azure.AzureBus",
    "celery": "koan_django.messaging.buses.celery.CeleryBus",
}

#: What :attr:`BusOptions.tenants` says of a tenant that has queues of its own on the broker of the others.
QUEUES = "queues"
_BROKERS = frozenset({"amqp", "amqps"})
#: Those whose URLs are read as such, with a number for the port.
_NUMBERED = _BROKERS | {"redis", "rediss"}
#: A group and a bus: part of queue names and of columns.
GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SOURCE = re.compile(r"[\x21-\x7e]{0,255}")
LONGEST_DELAY = timedelta(days=366)
#: What RabbitMQ takes at most, however it is set up.
LARGEST_BODY = 512 * 1024 * 1024
MOST_LANES = 64
_WEB = re.compile(r"https?://", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

#: What a process may do to the topology of a broker when it starts.
Provisioning = Literal["off", "dry-run", "create-if-missing", "reconcile-additive", "force-recreate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOptions:
    """One bus. ``url`` may hold secret references; it is resolved when the bus connects.

    Without a URL the default bus is elected if no bus has one; any other is on the database.
    """

    url: str | None = field(default=None, repr=False)
    #: Where RabbitMQ's management API is; without it on the usual port of the same host. Empty: it is not asked.
    management: str | None = field(default=None, repr=False)
    provisioning: Provisioning = "create-if-missing"
    #: Other brokers, which take over in this order while the one of ``url`` is away.
    failover: tuple[str, ...] = field(default=(), repr=False)
    #: As ``management``, of each broker of ``failover`` in its order; without it on the usual port of its host.
    failover_management: tuple[str, ...] = field(default=(), repr=False)
    prefix: str = "koan"
    #: Whether messages carry the attributes of CloudEvents 1.0 as headers.
    cloudevents: bool = False
    #: On RabbitMQ, whether urgent messages go first: the queues of groups are classic ones then.
    priorities: bool = False
    partitions: int = 16
    #: Tenants apart from the others: ``"queues"`` of their own, or the URL of a virtual host or broker of their own.
    tenants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    #: Over how many lanes of queues the other tenants are spread; none: all are in the shared queues.
    tenant_lanes: int = 0
    confirm_timeout: timedelta = timedelta(seconds=5)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: On a broker, how long a delayed message may wait there; for longer it waits in the database.
    delay_in_broker: timedelta = timedelta(minutes=2)
    #: What must hold on this bus; otherwise ``check`` fails and no worker starts.
    require: tuple[Capability, ...] = ()
    #: The largest body in bytes, of what is sent and of what is handled.
    max_body: int = 16 * 1024 * 1024
    batch: int = 50
    lease: timedelta = timedelta(seconds=10)
    poll_interval: timedelta = timedelta(milliseconds=100)
    #: On RabbitMQ, whether the process that has sent a message without a key in a transaction publishes it itself.
    fast_path: bool = False
    #: Whether PostgreSQL wakes who waits for rows.
    notify: bool = True
    delivery_limit: int = 100
    #: Of handlers that declare none.
    time_limit: timedelta | None = None
    soft_time_limit: timedelta | None = None

    def __post_init__(self) -> None:
        if self.url is not None and self.scheme not in SCHEMES:  # the URL itself is not shown, it may hold a password
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            what = f"no bus has the scheme {self.scheme!r}" if self.scheme else "the URL has no scheme"
            raise ValueError(f"{what}: use {known}{did_you_mean(self.scheme, SCHEMES)}")
        for place in (self.management, *self.failover_management):
            if place and not _WEB.match(place) and not has_reference(place):
                raise ValueError("MANAGEMENT must begin with http:// or https://, or with a reference to a secret")
        if self.failover_management and len(self.failover_management) != len(self.failover):
            raise ValueError("FAILOVER_MANAGEMENT has one place for each broker of FAILOVER, in the same order")
        if self.failover and not {self.scheme, *map(_scheme_of, self.failover)} <= _BROKERS:
            raise ValueError("FAILOVER lists brokers beside a URL that is one: each begins with amqp:// or amqps://")
        if len({self.url, *self.failover}) <= len(self.failover):
            raise ValueError("FAILOVER lists a broker twice, or that of URL")
        if not all(map(_is_readable, (self.url or "", *self.failover, *self.tenants.values()))):
            raise ValueError(
                "a URL cannot be read: its port is a number up to 65535, and what is reserved in its user, password and"
                " virtual host is percent-encoded"
            )
        if PREFIX.fullmatch(self.prefix) is None or self.prefix.startswith("amq."):
            raise ValueError("PREFIX must be letters, digits, '.', '_' and '-', at most 64, and not begin with 'amq.'")
        if self.priorities and not self.is_on_rabbitmq:
            raise ValueError("PRIORITIES is for RabbitMQ: other buses have them anyway, or never")
        if not 1 <= self.partitions <= 1024:
            raise ValueError("PARTITIONS must be between 1 and 1024")
        for name, place in self.tenants.items():
            if not tenant.is_valid(name):
                raise ValueError(f"TENANTS: {shown(name)} can be no tenant's name")
            if place != QUEUES and _scheme_of(place) not in _BROKERS:
                raise ValueError(f"TENANTS: {name!r} has 'queues' of its own, or a URL of amqp:// or amqps://")
        if not 0 <= self.tenant_lanes <= MOST_LANES:
            raise ValueError(f"TENANT_LANES must be between 0 and {MOST_LANES}")
        if not 1024 <= self.max_body <= LARGEST_BODY:
            raise ValueError(f"MAX_BODY must be between 1024 and {LARGEST_BODY} bytes")
        if not 1 <= self.batch <= 1000:
            raise ValueError("BATCH must be between 1 and 1000")
        if not timedelta(0) <= self.delay_in_broker <= LONGEST_DELAY:
            raise ValueError(f"DELAY_IN_BROKER must be between 0 and {LONGEST_DELAY.days} days")
        if self.lease < timedelta(seconds=2):
            raise ValueError("LEASE must be at least 2 s: it is renewed at a third of itself")
        if self.delivery_limit < 5:
            raise ValueError("DELIVERY_LIMIT must be at least 5: a worker is killed now and then")
        if self.poll_interval < timedelta(milliseconds=5):
            raise ValueError("POLL_INTERVAL must be at least 5 ms")
        if any(limit is not None and limit <= timedelta(0) for limit in (self.time_limit, self.soft_time_limit)):
            raise ValueError("TIME_LIMIT and SOFT_TIME_LIMIT must be above 0")
        if self.time_limit and self.soft_time_limit and self.soft_time_limit >= self.time_limit:
            raise ValueError("SOFT_TIME_LIMIT must be shorter than TIME_LIMIT, which kills")
        if self.confirm_timeout < timedelta(milliseconds=100):
            raise ValueError("CONFIRM_TIMEOUT must be at least 100 ms")
        if self.fast_path and (not self.is_on_rabbitmq or self.failover or set(self.tenants.values()) - {QUEUES}):
            raise ValueError("FAST_PATH is for one RabbitMQ: not with FAILOVER, or with brokers of tenants")

    @property
    def declares(self) -> bool:
        """Whether a process may make what is missing on the broker when it starts."""
        return self.provisioning not in ("off", "dry-run")

    @property
    def sections(self) -> tuple[str, ...]:
        """What has queues of its own beside the shared ones, as it stands in their names."""
        named = (f"t.{name}" for name, place in self.tenants.items() if place == QUEUES)
        return (*named, *(f"l.{number}" for number in range(self.tenant_lanes)))

    def section_of(self, name: str) -> str:
        """Return in which section the messages of a tenant are; empty for the shared queues.

        The name may be anybody's: it only chooses among what is configured.
        """
        if self.tenants.get(name) == QUEUES:
            return f"t.{name}"
        return f"l.{partition_of(name, self.tenant_lanes)}" if name and self.tenant_lanes else ""

    @property
    def is_on_rabbitmq(self) -> bool:
        """Whether the URL leads to RabbitMQ."""
        return self.scheme in _BROKERS

    @property
    def is_for_tasks(self) -> bool:
        """Whether it carries tasks to Celery's own broker, and no messages."""
        return self.scheme == "celery"

    def has_broker(self, name: str) -> bool:
        """Whether a tenant has a virtual host or a broker of its own."""
        return self.tenants.get(name, QUEUES) != QUEUES

    @property
    def undivided(self) -> BusOptions:
        """The same for a bus on which all tenants share everything."""
        return replace(self, tenants=MappingProxyType({}), tenant_lanes=0)

    @property
    def scheme(self) -> str:
        """What stands before ``://``; it is never part of a secret. Without a URL it is ``database``."""
        return _scheme_of("database://" if self.url is None else self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingOptions:
    """Without any of it: one bus called ``main``, on the database or on the broker that is elected."""

    default_bus: str = "main"
    default_group: str = "workers"
    #: Databases that have an outbox beside the one of messaging's tables, for messages of their transactions.
    outbox_databases: tuple[str, ...] = ()
    #: Where messages wait that name no database, while several transactions are open. None: that is an error.
    default_database: str | None = None
    buses: Mapping[str, BusOptions] = field(default_factory=lambda: MappingProxyType({"main": BusOptions()}))
    #: Who sends, as the ``source`` of CloudEvents: a URI, or a path. Without it, the package of ``ROOT_URLCONF``.
    source: str = ""
    #: Whether the W3C baggage in force travels with messages.
    propagate_baggage: bool = True
    #: Which message events are kept: every step, the troubled ones only, or none.
    trail: Literal["all", "failures", "off"] = "all"
    #: How long a warm stop waits for what is in flight; keep it below the supervisor's kill time.
    drain_timeout: timedelta = timedelta(seconds=20)
    #: How long events and settled dead letters are kept.
    retention: timedelta = timedelta(days=30)
    #: How long messages that are parked in the outbox are kept; none: until somebody publishes or discards them.
    parked_retention: timedelta | None = None

    def __post_init__(self) -> None:
        if self.default_bus not in self.buses:
            hint = did_you_mean(self.default_bus, self.buses)
            raise ValueError(f"DEFAULT_BUS {self.default_bus!r} is not in BUSES{hint}")
        for alias in self.buses:
            if GROUP.fullmatch(alias) is None:
                raise ValueError(f"the bus {alias!r} must be called by letters, digits, '_' and '-', at most 64")
        if self.buses[self.default_bus].is_for_tasks or len(self._of_tasks) > 1:
            raise ValueError("one bus may be celery://, for tasks, and not that of DEFAULT_BUS: messages need another")
        if GROUP.fullmatch(self.default_group) is None:
            raise ValueError(f"DEFAULT_GROUP {self.default_group!r} is not usable in a queue name")
        if _SOURCE.fullmatch(self.source) is None:
            raise ValueError(f"SOURCE {self.source!r} is no URI: it may hold visible ASCII only, at most 255")
        if self.retention < timedelta(hours=1):
            raise ValueError("RETENTION must be at least 1 h")
        if self.parked_retention is not None and self.parked_retention < timedelta(hours=1):
            raise ValueError("PARKED_RETENTION must be at least 1 h")

    @property
    def elected(self) -> str | None:
        """The bus that is elected, since no bus has a URL."""
        urls = [bus.url for bus in self.buses.values() if not bus.is_for_tasks]
        return self.default_bus if all(url is None for url in urls) else None

    @property
    def bus_of_tasks(self) -> str | None:
        """The bus by which tasks reach Celery's broker, if there is one."""
        return next(iter(self._of_tasks), None)

    @property
    def _of_tasks(self) -> list[str]:
        return [alias for alias, bus in self.buses.items() if bus.is_for_tasks]


def _is_readable(url: str) -> bool:
    """Whether host and port of a URL of RabbitMQ or Redis can be read; a reference may stand for anything."""
    if _scheme_of(url) not in _NUMBERED or has_reference(url):
        return True
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _scheme_of(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def place_of(url: str) -> str:
    """Return where ``url`` leads, without the user and the password."""
    return url.partition("://")[2].rpartition("@")[2].split("?")[0]


options = section("MESSAGING", MessagingOptions)
