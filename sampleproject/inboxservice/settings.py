"""Settings of the inbox service. Everything that differs between two of them comes from the environment.

``INBOX_REDIS_URL`` is where it remembers, ``INBOX_TOKEN`` (or the file ``inbox/token`` below ``/run/secrets``) what its
clients say, ``INBOX_SCOPES`` what their keys begin with. With ``INBOX_BUS_URL``, clients find it by its name.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
# What a process knows of itself, in a file of its own; everything that processes tell each other is in Redis.
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("INBOX_TABLES", ":memory:")},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_REDIS_URL = os.environ.get("INBOX_REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _REDIS_URL,
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 2, "SOCKET_TIMEOUT": 2},
    }
}

if "INBOX_BUS_URL" in os.environ:
    INSTALLED_APPS += ["koan_django.messaging"]
    SILENCED_SYSTEM_CHECKS = ["koan_messaging.W004"]  # no worker shares that database

_PREFIX = {"PREFIX": os.environ.get("INBOX_PREFIX", "koan")}
_STORE = "koan_django.contrib.redis.Redis"
KOAN: dict[str, Any] = {
    "SECRETS": {"CHAIN": ["file", "env"] if Path("/run/secrets").is_dir() else ["env"]},
    "CORE": {name.upper(): {"BACKEND": _STORE + name.title(), "OPTIONS": _PREFIX} for name in ("health", "leases")}
    | {"BREAKERS": {"BACKEND": f"{_STORE}Breakers", "OPTIONS": _PREFIX}}
    | {"AUDIT": {"EXCLUDE": ["*"]}},  # there is no table for it
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
if "INBOX_BUS_URL" in os.environ:
    _URL = os.environ.get("INBOX_URL", f"http://{socket.gethostname()}:{os.environ.get('PORT', '8080')}")
    ALLOWED_HOSTS += [urlsplit(_URL).hostname or ""]
    # Those that remember in the same place are found under one name.
    _REDIS = urlsplit(_REDIS_URL)
    KOAN["MESSAGING"] = {
        "BUSES": {"main": {"URL": os.environ["INBOX_BUS_URL"], "PREFIX": os.environ.get("INBOX_BUS_PREFIX", "koan")}}
    }
    KOAN["INBOX"]["DISCOVERY"] = {
        "KEYS": [
            "{{secret:inbox/discovery-key}}",
            # While it rotates there is a second one, by which nothing is signed.
            *(["{{secret:inbox/discovery-other-key}}"] if "INBOX_DISCOVERY_OTHER_KEY" in os.environ else []),
        ],
        "ANNOUNCE": {
            "NAME": os.environ.get("INBOX_NAME", "inbox"),
            "URL": _URL,
            "STORE": f"{_REDIS.hostname}:{_REDIS.port or 6379}{_REDIS.path or '/0'}/{_PREFIX['PREFIX']}",
            "PRIORITY": int(os.environ.get("INBOX_PRIORITY", "0")),
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
