"""Settings that put every store of core into Redis."""

from __future__ import annotations

from typing import Any


def redis_stores(prefix: str) -> dict[str, Any]:
    """Return ``KOAN["CORE"]`` with every store in Redis."""
    package, options = "koan_django.contrib.redis", {"CACHE": "redis", "PREFIX": prefix}
    return {
        "HEALTH": {"BACKEND": f"{package}.RedisHealth", "OPTIONS": options},
        "LEASES": {"BACKEND": f"{package}.RedisLeases", "OPTIONS": options},
        "BREAKERS": {"BACKEND": f"{package}.RedisBreakers", "OPTIONS": options},
    }


def redis_cache(url: str) -> dict[str, Any]:
    """Return ``CACHES`` with a cache of django-redis beside the default."""
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    return {"default": local, "redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}
