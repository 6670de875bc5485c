"""Tasks that live workers run: each call leaves a line, as those of handlers do."""

import os
import uuid
from typing import Any

from celery import shared_task
from django.contrib.auth.models import Group

from koan_django.celery import OutboxTask
from koan_django.core.context import tenant

from .handlers import note


@shared_task(base=OutboxTask, name="live.task", bind=True)
def task(self: Any, number: int) -> str:
    note(f"{number} 1 {os.getpid()}")
    Group.objects.create(name=f"{number} {uuid.uuid4().hex}")
    return f"{tenant.current()} {self.request.id}"
