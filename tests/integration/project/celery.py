"""The Celery app of live workers."""

import os

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.integration.project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
app.autodiscover_tasks(["tests.integration.project"])
