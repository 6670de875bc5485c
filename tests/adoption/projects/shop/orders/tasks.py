from celery import shared_task


@shared_task
def report():
    """Every night."""


@shared_task
def count():
    """Every five minutes."""
