"""Celery of the sample project. ``install(app)`` is the only line that koan-django adds."""

import os

from celery import Celery

from koan_django.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sampleproject.settings")

app = Celery("sampleproject")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
install(app)
