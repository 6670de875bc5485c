"""Settings of the test run.

The default database is SQLite in a file, or the PostgreSQL or MariaDB of ``KOAN_TEST_DATABASE_URL``.
"""

from __future__ import annotations

import atexit
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

SECRET_KEY = "tests-only"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
# Beat supports a new Django later than the others do: without it everything but scheduling is tested.
_SCHEDULING = ["django_celery_beat", "koan_django.scheduling"] if find_spec("django_celery_beat") else []
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "koan_django.core",
    "koan_django.messaging",
    "koan_django.inbox",
    "koan_django.secrets",
    *_SCHEDULING,
    "koan_django.storage",
    "koan_django.media",
    "tests.storage",
    "tests.media.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "koan_django.core.middleware.ContextMiddleware",
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
STATIC_URL = "static/"
# Django 6.1 asks for it; those before do not know it.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}


def _engine(scheme: str) -> str:
    if scheme != "mysql":
        return "postgresql"
    import pymysql  # the driver that needs no compiler

    pymysql.install_as_MySQLdb()
    return "mysql"


def _database() -> dict[str, object]:
    url = os.environ.get("KOAN_TEST_DATABASE_URL")
    if url:
        parts = urlsplit(url)
        return {
            "ENGINE": f"django.db.backends.{_engine(parts.scheme)}",
            "NAME": parts.path.lstrip("/"),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": parts.port or "",
        }
    folder = Path(os.environ.get("KOAN_TEST_DIR", "/tmp"))
    name = str(folder / f"koan-tests-{os.getpid()}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "TEST": {"NAME": name},
    }


DATABASES = {"default": _database()}

_FILES = Path(os.environ.get("KOAN_TEST_DIR", "/tmp")) / f"koan-tests-{os.getpid()}-files"


def _remove(owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves its parent's files alone
        shutil.rmtree(_FILES, ignore_errors=True)


atexit.register(_remove, os.getpid())
MEDIA_ROOT = str(_FILES / "media")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "archive": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(_FILES / "archive")},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
KOAN = {
    "STORAGE": {
        "DEFAULT_PROFILE": "hot",
        "PROFILES": {
            "hot": {"STORAGE": "default", "CONTAINER": "hot"},
            "cold": {"STORAGE": "archive", "CONTAINER": "cold"},
        },
    },
}
