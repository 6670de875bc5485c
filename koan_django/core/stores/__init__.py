"""Where processes keep what they tell each other: health facts, named leases, circuit breakers.

By default in rows. ``KOAN["CORE"]`` may name another store for each, by its dotted path, and core knows no more of it
than the protocols in :mod:`.base`.
"""

from .base import STORE_ERRORS, BreakerStore, Change, Fact, HealthStore, KnownFact, KnownLease, LeaseStore, Status
from .chosen import breaker_store, health_store, lease_store

__all__ = [
    "STORE_ERRORS",
    "BreakerStore",
    "Change",
    "Fact",
    "HealthStore",
    "KnownFact",
    "KnownLease",
    "LeaseStore",
    "Status",
    "breaker_store",
    "health_store",
    "lease_store",
]
