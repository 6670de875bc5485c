"""A project that configures nothing of ours but where its files lie: Celery on folders under ``KOAN_LIVE_DIR``."""

import json
import os
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, KOAN, STORAGES

ROOT = Path(os.environ["KOAN_LIVE_DIR"])
INSTALLED_APPS = [*INSTALLED_APPS, "tests.live.project"]
DATABASES["default"] |= json.loads(os.environ["KOAN_LIVE_DATABASE"])
MEDIA_ROOT = str(ROOT / "media")
STORAGES["archive"]["OPTIONS"]["location"] = str(ROOT / "archive")
KOAN = KOAN | json.loads(os.environ.get("KOAN_LIVE_KOAN", "{}"))

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(ROOT / "queue"),
    "data_folder_out": str(ROOT / "queue"),
    "control_folder": str(ROOT / "control"),
    "polling_interval": 0.05,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"koan_django": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
