"""Settings of both sides. What differs between processes comes from the environment."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(os.environ["BENCH_DIR"])
SECRET_KEY = "benchmarks-only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: Without it messages are handled and nothing about them is kept, as Celery does.
WITH_INBOX = os.environ.get("BENCH_INBOX", "1") == "1"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "koan_django.core",
    "koan_django.secrets",
    "koan_django.storage",
    "koan_django.media",
    "koan_django.messaging",
    *(["koan_django.inbox"] if WITH_INBOX else []),
    "benchmarks.project",
    "django_celery_outbox",
    "easy_thumbnails",
    "imagekit",
    "sorl.thumbnail",
]


def _database() -> dict[str, object]:
    url = os.environ.get("BENCH_DATABASE_URL")
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "database.sqlite3"}
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "CONN_MAX_AGE": None,  # Celery would connect anew for each task
    }


DATABASES = {"default": _database()}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": FOLDER / "files"}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "s3": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": json.loads(os.environ.get("BENCH_S3", "{}"))},
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if "BENCH_REDIS_URL" in os.environ:
    CACHES["default"] = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["BENCH_REDIS_URL"]}
MEDIA_ROOT = FOLDER / "files"

AMQP_URL = os.environ.get("BENCH_AMQP_URL", "")
KOAN = {
    "MESSAGING": {
        "BUSES": {"main": {"URL": AMQP_URL or "memory://", "PREFIX": "bench"}},
        "TRAIL": os.environ.get("BENCH_TRAIL", "all"),
    },
    "STORAGE": {"DEFAULT_PROFILE": "default", "PROFILES": {name: {"STORAGE": name} for name in ("default", "s3")}},
    "SECRETS": {
        "CHAIN": ["vault"],
        "PROVIDERS": {"vault": {"BACKEND": "benchmarks.project.provider.HvacProvider"}},
    },
}

# easy-thumbnails
THUMBNAIL_QUALITY = 82
# django-imagekit
IMAGEKIT_CACHE_BACKEND = "default"

# django-celery-outbox
CELERY_OUTBOX_APP = "benchmarks.project.announcing.app"
MONITORING_METRICS_ENABLED = False

CELERY_BROKER_URL = AMQP_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = int(os.environ.get("BENCH_PREFETCH", "4"))
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
