"""The backend that ``TASKS`` names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import current_app
from celery.utils import uuid
from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.tasks import DEFAULT_TASK_QUEUE_NAME
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone

from . import records
from .running import run

if TYPE_CHECKING:
    from django.tasks import Task, TaskResult

logger = logging.getLogger(__name__)

USING = "using"


class CeleryBackend(BaseTaskBackend):
    """Enqueues a task as a row of the open transaction, or at Celery's broker where none is open.

    Django's queue ``default`` is Celery's default queue; any other is the Celery queue of that name. The option
    ``using`` names the database of whose transactions tasks are part when several are open.
    """

    supports_defer = True
    supports_async_task = True

    @property
    def supports_get_result(self) -> bool:  # type: ignore[override]  # what Celery is told decides
        """Whether Celery has a result backend that other processes can read."""
        return records.are_kept()

    @property
    def supports_priority(self) -> bool:  # type: ignore[override]  # as above
        """Whether Celery's queues have priorities: on RabbitMQ, with ``task_queue_max_priority``."""
        return bool(current_app.conf.task_queue_max_priority)

    def enqueue(  # type: ignore[override]  # of whatever task
        self, task: Task[..., Any], args: Any, kwargs: Any
    ) -> TaskResult[..., Any]:
        """Have a worker run ``task``; see :class:`~koan_django.celery.OutboxTask`.

        Raises ``TypeError`` for arguments that are not JSON, ``InvalidTask`` for what the backend cannot do.
        """
        self.validate_task(task)
        result = records.new(task, uuid(), args, kwargs, self.alias)
        records.change(result, enqueued_at=timezone.now())
        self._remember(result)
        run.apply_async(
            (task.module_path, result.args, result.kwargs, self.alias, result.enqueued_at.isoformat()),  # type: ignore[union-attr]  # set
            task_id=result.id,
            eta=task.run_after,
            using=self.options.get(USING),
            shadow=task.module_path,
            **self._route(task),
        )
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return what is known of a task; raises ``TaskResultDoesNotExist`` for one that nobody has heard of."""
        if not self.supports_get_result:
            return super().get_result(result_id)
        found = records.load(result_id)
        if found is None:
            raise TaskResultDoesNotExist(result_id)
        return found

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """E003: an option that there is not. E004: no bus leads to Celery's broker."""
        found: list[CheckMessage] = [
            Error(
                f"TASKS[{self.alias!r}]['OPTIONS'] has {name!r}, which CeleryBackend does not know",
                hint=f"It has only {USING!r}: what concerns the broker and the results is set for Celery, by CELERY_….",
                id="koan_celery.E003",
            )
            for name in self.options
            if name != USING
        ]
        if not _has_bus():
            found.append(
                Error(
                    f"TASKS[{self.alias!r}] is a CeleryBackend, and no bus leads to Celery's broker",
                    hint='Add one to KOAN["MESSAGING"]["BUSES"]: "tasks": {"URL": "celery://"}. It needs'
                    " 'koan_django.messaging' in INSTALLED_APPS.",
                    id="koan_celery.E004",
                )
            )
        return found

    def _remember(self, result: TaskResult[..., Any]) -> None:
        """Before it is sent: afterwards a worker may have written more. It is not worth the task."""
        try:
            records.save(result)
        except Exception as error:  # of any result backend
            logger.warning("Celery's result backend does not know of %s: %s", result.id, type(error).__name__)

    def _route(self, task: Task[..., Any]) -> dict[str, Any]:
        route: dict[str, Any] = {}
        if task.queue_name != DEFAULT_TASK_QUEUE_NAME:
            route["queue"] = task.queue_name
        if self.supports_priority:
            share = (task.priority - TASK_MIN_PRIORITY) / (TASK_MAX_PRIORITY - TASK_MIN_PRIORITY)
            route["priority"] = round(share * current_app.conf.task_queue_max_priority)
        return route


def _has_bus() -> bool:
    if not apps.is_installed("koan_django.messaging"):
        return False
    from koan_django.messaging.conf import options

    try:
        return options().bus_of_tasks is not None
    except ImproperlyConfigured:
        return True  # reported by messaging's own check
