"""The buses inside a Celery worker."""
