"""The Celery app of live workers."""

import faulthandler
import os
import signal
import sys

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
app.autodiscover_tasks(["tests.integration.project"])

# A test that waits in vain asks each worker, and each of its children, where all of its threads stand.
faulthandler.register(signal.SIGUSR2, file=sys.__stderr__)
