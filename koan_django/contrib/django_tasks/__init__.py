"""Tasks of Django 6 (``django.tasks``) that Celery workers run, and that keep to the transaction of ``enqueue()``.

``TASKS = {"default": {"BACKEND": "koan_django.contrib.django_tasks.CeleryBackend"}}``. Needs Django 6.0.
"""

from __future__ import annotations

import django

if django.VERSION < (6, 0):
    raise ImportError(f"koan_django.contrib.django_tasks needs Django 6.0 or later; this is {django.__version__}")

from .backend import CeleryBackend

__all__ = ["CeleryBackend"]
