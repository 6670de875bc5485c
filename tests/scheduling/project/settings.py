"""Settings of live beats and workers: the embedded defaults, with everything under ``KOAN_SCHEDULING_DIR``."""

import os
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _BASE

ROOT = Path(os.environ["KOAN_SCHEDULING_DIR"])
INSTALLED_APPS = [*_BASE, "tests.scheduling.project"]
if "KOAN_TEST_DATABASE_URL" not in os.environ:
    DATABASES["default"]["NAME"] = str(ROOT / "db.sqlite3")  # noqa: F405
KOAN = {"SCHEDULING": {"LEASE": "2s"}}

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(ROOT / "queue"),
    "data_folder_out": str(ROOT / "queue"),
    "control_folder": str(ROOT / "control"),
    "polling_interval": 0.05,
    "store_processed": False,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
