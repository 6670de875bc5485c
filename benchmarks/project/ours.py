"""The Celery app of our workers: an ordinary one with our bootstep."""

import os

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.project.settings")
app = Celery("ours")
app.config_from_object("django.conf:settings", namespace="CELERY")
install(app)
