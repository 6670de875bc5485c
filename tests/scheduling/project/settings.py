"""Settings of live beats and workers: Celery on folders under ``KOAN_SCHEDULING_DIR``, the database of the test."""

import json
import os
from pathlib import Path

from tests.settings import DATABASES as _DATABASES

ROOT = Path(os.environ["KOAN_SCHEDULING_DIR"])
SECRET_KEY = "tests-only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_beat",
    "koan_django.core",
    "koan_django.scheduling",
    "tests.scheduling.project",
]
DATABASES = {"default": _DATABASES["default"] | json.loads(os.environ["KOAN_SCHEDULING_DATABASE"])}
KOAN = {"SCHEDULING": {"LEASE": "2s"}}

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(ROOT / "queue"),
    "data_folder_out": str(ROOT / "queue"),
    "control_folder": str(ROOT / "control"),
    "polling_interval": 0.05,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
