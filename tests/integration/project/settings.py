"""Settings of live workers: everything that differs between tests comes from ``KOAN_LIVE`` as JSON."""

import json
import os
from pathlib import Path

from koan_django.testing.faults import arm_from_environment
from tests.settings import DATABASES as _DATABASES

LIVE = json.loads(os.environ["KOAN_LIVE"])
ROOT = Path(LIVE["folder"])
SECRET_KEY = "tests-only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "koan_django.core",
    "koan_django.messaging",
    "koan_django.inbox",
    "tests.integration.project",
]
DATABASES = {"default": _DATABASES["default"] | LIVE["database"]}
KOAN = LIVE["koan"]
LIMITS = LIVE["limits"]

# Django 6 knows it.
TASKS = {"default": {"BACKEND": "koan_django.contrib.django_tasks.CeleryBackend", "QUEUES": []}}

CELERY_BROKER_URL = LIVE["broker"]
if CELERY_BROKER_URL == "filesystem://":
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(ROOT / "queue"),
        "data_folder_out": str(ROOT / "queue"),
        "control_folder": str(ROOT / "control"),
        "polling_interval": 0.05,
    }
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_RESULT_BACKEND = LIVE.get("results")
CELERY_TASK_IGNORE_RESULT = CELERY_RESULT_BACKEND is None
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
arm_from_environment()
