"""The peer's side of a worker."""

from celery import shared_task
from django.db import transaction

from .marks import mark, tell


@shared_task(name="bench.empty", ignore_result=True)
def empty(number: int, text: str) -> None:
    mark(number)


@shared_task(name="bench.hop", ignore_result=True)
def hop(number: int, text: str) -> None:
    tell(number)


@shared_task(name="bench.once", ignore_result=True, acks_late=True, bind=True)
def once(self, number: int, text: str) -> None:
    from .models import Handled

    with transaction.atomic():
        _, created = Handled.objects.get_or_create(key=self.request.id)
        if created:
            mark(number)
