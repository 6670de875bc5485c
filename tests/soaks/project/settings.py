"""Settings of every process of a soak; the servers of the run come from ``KOAN_SOAK`` as JSON."""

import json
import os
from urllib.parse import urlsplit

SOAK = json.loads(os.environ["KOAN_SOAK"])
_DATABASE = urlsplit(SOAK["database"])
SECRET_KEY = "soaks-only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["koan_django.core", "koan_django.messaging", "koan_django.inbox", "tests.soaks.project"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _DATABASE.path.lstrip("/"),
        "USER": _DATABASE.username,
        "HOST": _DATABASE.hostname,
        "PORT": _DATABASE.port,
    }
}
# Enough attempts that none is used up by faults alone: every message must end well.
_BUS = {
    "LEASE": 2,
    "POLL_INTERVAL": 0.02,
    "CONFIRM_TIMEOUT": 2,
    "RETRY": {"FIRST_DELAY": 0.2, "FACTOR": 2, "MAX_DELAY": 0.4, "MAX_ATTEMPTS": 30, "JITTER": 0},
}
KOAN = {
    "MESSAGING": {
        "DEFAULT_BUS": "database",
        "TRAIL": SOAK.get("trail", "all"),
        "BUSES": {
            "database": {"URL": "database://", **_BUS},
            "rabbitmq": {"URL": SOAK["bus"], **_BUS, **SOAK["options"]},
        },
    },
    "INBOX": {"LEASE": 5},
}
CELERY_BROKER_URL = SOAK["broker"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
