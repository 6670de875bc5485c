"""Health facts, leases and circuit breakers in Redis, through a cache of django-redis (the extra ``redis``).

Name the classes in ``KOAN["CORE"]``; nothing has to be added to ``INSTALLED_APPS``.
"""

try:
    import django_redis as _django_redis  # noqa: F401
except ImportError as error:
    raise ImportError(f"{error}: install koan-django[redis], which brings it") from error

from .breakers import RedisBreakers
from .health import RedisHealth
from .leases import RedisLeases

__all__ = ["RedisBreakers", "RedisHealth", "RedisLeases"]
