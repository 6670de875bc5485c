"""The sample project: a photograph gallery that uses every app."""

from .celery import app as celery_app

__all__ = ["celery_app"]
