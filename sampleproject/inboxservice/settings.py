"""Settings of the inbox service. Everything that differs between two of them comes from the environment.

``INBOX_REDIS_URL`` is where it remembers, ``INBOX_TOKEN`` (or the file ``inbox/token`` below ``/run/secrets``) what its
clients say, ``INBOX_SCOPES`` what their keys begin with.
"""

from __future__ import annotations

import os
from pathlib import Path

from koan_django import secrets

DEBUG = False
SECRET_KEY = "{{secret:inbox/secret-key?default=nothing-is-signed-here}}"  # noqa: S105  # a reference
ALLOWED_HOSTS = os.environ.get("INBOX_HOSTS", "127.0.0.1,localhost,inbox").split(",")
ROOT_URLCONF = "sampleproject.inboxservice.urls"
WSGI_APPLICATION = "sampleproject.inboxservice.wsgi.application"
USE_TZ = True

INSTALLED_APPS = [
    "koan_django.core",
    "koan_django.secrets",
    "koan_django.inbox",
    "koan_django.contrib.prometheus",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "koan_django.core.middleware.ContextMiddleware",
]
# Django wants one; everything that processes tell each other is in Redis.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("INBOX_REDIS_URL", "redis://127.0.0.1:6379/0"),
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 2, "SOCKET_TIMEOUT": 2},
    }
}

_PREFIX = {"PREFIX": os.environ.get("INBOX_PREFIX", "koan")}
_STORE = "koan_django.contrib.redis.Redis"
KOAN = {
    "SECRETS": {"CHAIN": ["file", "env"] if Path("/run/secrets").is_dir() else ["env"]},
    "CORE": {name.upper(): {"BACKEND": _STORE + name.title(), "OPTIONS": _PREFIX} for name in ("health", "leases")}
    | {"BREAKERS": {"BACKEND": f"{_STORE}Breakers", "OPTIONS": _PREFIX}},
    "INBOX": {
        "STORE": "redis",
        "OPTIONS": _PREFIX,
        "SERVICE": {
            "TOKENS": {
                "clients": {
                    "TOKEN": "{{secret:inbox/token}}",
                    "SCOPES": os.environ.get("INBOX_SCOPES", "*").split(","),
                    "RATE": int(os.environ.get("INBOX_RATE", "1000")),
                }
            }
        },
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "koan_django.core.logs.ContextFilter"}},
    "formatters": {"line": {"format": "%(levelname)s %(correlation_id).8s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]}},
    "root": {"handlers": ["console"], "level": os.environ.get("INBOX_LOG_LEVEL", "WARNING")},
}

secrets.resolve_settings(globals())
