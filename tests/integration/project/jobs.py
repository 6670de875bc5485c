"""Tasks of Django 6 that live workers run."""

import asyncio
import os
import uuid
from typing import Any

from django.contrib.auth.models import Group
from django.tasks import task

from koan_django.core.context import tenant

from .handlers import note


@task(takes_context=True)
def work(context: Any, number: int) -> str:
    note(f"{number} {context.attempt} {os.getpid()}")
    Group.objects.create(name=f"{number} {uuid.uuid4().hex}")
    return f"{tenant.current()} {context.task_result.id}"


@task
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task
def fail() -> None:
    raise ValueError("not like this")
