"""Readiness: nothing stands in the way of the providers of the chain. No provider is asked over a connection."""

from __future__ import annotations

from koan_django.core import health

from .offline import is_offline
from .resolver import current


@health.probe("secrets")
def secrets() -> health.Finding:
    """Unhealthy when a provider of the chain cannot be built, or when this process runs offline."""
    if is_offline():
        return health.Finding("secrets", "unhealthy", "KOAN_SECRETS=offline: settings may hold placeholders")
    chain = current()
    found = [(alias, problem) for alias in chain.options.chain for problem in chain.provider(alias).problems()]
    message = "; ".join(f"{alias}: {problem}" for alias, problem in found)
    return health.Finding("secrets", "degraded" if found else "healthy", message)
