"""The Celery app of the live processes."""

import os

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.live.project.settings")
app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
