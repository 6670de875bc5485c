"""The Celery app of the workers."""

import os

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.soaks.project.settings")
app = Celery("soak")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
