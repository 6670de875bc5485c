"""The checks of the project's Celery app."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured

from koan_django.core import defaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from django.core.checks import CheckMessage

#: What loses or hides tasks: a killed worker's (folders), every other process's (memory).
_SCHEMES = ("filesystem", "memory")
#: The task behind those of Django 6, whose backend checks it.
_OWN = frozenset({"koan_django.run_task"})


def check_broker(app: Celery) -> Callable[..., list[CheckMessage]]:
    """Return the check of ``app``. W001: Celery's own broker is a folder or this process's memory."""

    def check(app_configs: object, **kwargs: object) -> list[CheckMessage]:
        scheme = str(app.conf.broker_url or "").partition(":")[0]
        if scheme not in _SCHEMES:
            return []
        return defaults.in_force(
            f"Celery's broker is {scheme}://, which loses the tasks that a killed worker had fetched",
            instead="Set CELERY_BROKER_URL to a broker.",
            id="koan_celery.W001",
        )

    return check


def check_outbox(app: Celery) -> Callable[..., list[CheckMessage]]:
    """Return the check of the tasks of ``app`` that are known. E001: no outbox for one. E002: one is not JSON."""

    def check(app_configs: object, **kwargs: object) -> list[CheckMessage]:
        tasks = [task for task in app.tasks.values() if _is_kept(task)]
        found: list[CheckMessage] = []
        if tasks and not _has_bus():
            found.append(
                Error(
                    f"{tasks[0].name} is an OutboxTask, and no bus leads to Celery's broker",
                    hint='Add one to KOAN["MESSAGING"]["BUSES"]: "tasks": {"URL": "celery://"}. It needs'
                    " 'koan_django.messaging' in INSTALLED_APPS.",
                    id="koan_celery.E001",
                )
            )
        return found + [
            Error(
                f"{task.name} is an OutboxTask, and its serializer is {task.serializer!r}",
                hint="The outbox keeps JSON only: leave the serializer out, or use another base class.",
                id="koan_celery.E002",
            )
            for task in tasks
            if (task.serializer or app.conf.task_serializer) != "json"
        ]

    return check


def _is_kept(task: object) -> bool:
    """Whether ``task`` is an OutboxTask of the project; without messaging's packages it cannot be."""
    defined = sys.modules.get("koan_django.messaging.outgoing.celerytasks")
    return defined is not None and isinstance(task, defined.OutboxTask) and task.name not in _OWN


def _has_bus() -> bool:
    if not apps.is_installed("koan_django.messaging"):
        return False
    from koan_django.messaging.conf import options

    try:
        return options().bus_of_tasks is not None
    except ImproperlyConfigured:
        return True  # reported by messaging's own check
