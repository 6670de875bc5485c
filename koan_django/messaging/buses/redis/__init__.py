"""Redis: a stream per group, a sorted set of what waits for another attempt, one script for each verb."""

from django.core.exceptions import ImproperlyConfigured

try:
    import redis as _redis  # noqa: F401
except ImportError as error:
    raise ImproperlyConfigured("a bus with redis:// needs redis-py: pip install 'koan-django[redis]'") from error

from .bus import RedisBus

__all__ = ["RedisBus"]
