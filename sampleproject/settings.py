"""Settings of the sample project.

Without any environment it runs on the embedded defaults: SQLite, the database bus, local folders, Celery on the file
system. ``GALLERY_DATABASE_URL``, ``GALLERY_BUS_URL`` and ``GALLERY_BROKER_URL`` move it to servers; the code stays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from koan_django import secrets

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("GALLERY_DATA", BASE_DIR / "var" / "gallery"))
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("GALLERY_DEBUG", "1") == "1"
SECRET_KEY = "{{secret:gallery/secret-key?default=only-for-a-laptop-never-for-a-server}}"  # noqa: S105  # a reference
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ROOT_URLCONF = "sampleproject.urls"
WSGI_APPLICATION = "sampleproject.wsgi.application"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "koan_django.core",
    "koan_django.secrets",
    "koan_django.storage",
    "koan_django.messaging",
    "koan_django.inbox",
    "koan_django.media",
    "koan_django.scheduling",
    "sampleproject.gallery",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "sampleproject.security.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "koan_django.core.middleware.ContextMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def _database() -> dict[str, Any]:
    url = urlsplit(os.environ.get("GALLERY_DATABASE_URL", ""))
    if url.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname or "",
            "PORT": str(url.port or ""),
        }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        # A web process, a worker and beat write at the same time: without these SQLite answers "database is locked".
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": DATA_DIR / "files"},
    },
    "hot": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "hot"}},
    "cold": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": DATA_DIR / "cold"}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

KOAN = {
    "STORAGE": {
        "DEFAULT_PROFILE": "hot",
        "PROFILES": {
            "hot": {"STORAGE": "hot", "CONTAINER": "gallery"},
            "cold": {"STORAGE": "cold", "CONTAINER": "archive"},
        },
    },
    "MESSAGING": {
        "BUSES": {
            "main": {
                "URL": os.environ.get("GALLERY_BUS_URL", "database://"),
                "PREFIX": os.environ.get("GALLERY_BUS_PREFIX", "gallery"),
                # A killed worker's messages are taken over after this time.
                "LEASE": "5s",
                "RETRY": {"FIRST_DELAY": 1, "MAX_DELAY": 20},
            }
        }
    },
    # The leases of long work are short here, so that a killed worker's photographs do not wait long for the next.
    "INBOX": {"LEASE": "5s"},
    "MEDIA": {"PROFILE": "hot", "LEASE": "6s"},
}

CELERY_BROKER_URL = os.environ.get("GALLERY_BROKER_URL", "filesystem://localhost/")
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# How long a worker without an event loop waits before it believes that a killed child is gone.
CELERY_WORKER_LOST_WAIT = 1.0
if CELERY_BROKER_URL.startswith("filesystem"):
    # For tasks that carry row ids only, and are sent again from their rows: this transport loses what a killed worker
    # had fetched. The message bus is the database.
    _queue, _control = DATA_DIR / "celery" / "queue", DATA_DIR / "celery" / "control"
    _queue.mkdir(parents=True, exist_ok=True)
    _control.mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_queue),
        "data_folder_out": str(_queue),
        "control_folder": str(_control),
        "polling_interval": 0.05,
    }

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "koan_django.core.logs.ContextFilter"}},
    "formatters": {"line": {"format": "%(levelname)s %(correlation_id).8s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]}},
    "loggers": {"django.server": {"level": "WARNING"}},
    "root": {"handlers": ["console"], "level": os.environ.get("GALLERY_LOG_LEVEL", "WARNING")},
}
DEFAULT_EXCEPTION_REPORTER = "koan_django.core.error_pages.RedactingReporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "koan_django.core.error_pages.RedactingReporterFilter"

#: Where the demo's supervisor says which processes it runs; empty when nothing supervises.
GALLERY_SUPERVISOR = os.environ.get("GALLERY_SUPERVISOR", "")

secrets.resolve_settings(globals())
