"""The one Celery task that runs every task of Django, in a worker."""

from __future__ import annotations

from datetime import datetime
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from celery import shared_task
from django.tasks import Task, TaskContext, TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from koan_django.core.exceptions import PermanentError
from koan_django.core.redaction import redact_text
from koan_django.messaging.outgoing.celerytasks import OutboxTask

from . import records

if TYPE_CHECKING:
    from django.tasks import TaskResult

NAME = "koan_django.run_task"


@shared_task(
    base=OutboxTask, name=NAME, bind=True, ignore_result=True, store_errors_even_if_ignored=False, serializer="json"
)  # type: ignore[untyped-decorator]  # Celery is not typed
def run(self: Any, path: str, args: list[Any], kwargs: dict[str, Any], backend: str, enqueued_at: str) -> None:
    """Run the task at ``path``, keep how it went, and fail as it fails."""
    result = _begun(self.request, path, args, kwargs, backend)
    records.change(result, enqueued_at=datetime.fromisoformat(enqueued_at))
    sender = type(task_backends[backend])
    records.save(result)
    task_started.send(sender=sender, task_result=result)
    try:
        value = normalize_json(_call(result))
    except BaseException as error:
        _end(result, sender, TaskResultStatus.FAILED, errors=[*result.errors, _error(error)])
        raise
    _end(result, sender, TaskResultStatus.SUCCESSFUL, _return_value=value)


def _begun(request: Any, path: str, args: list[Any], kwargs: dict[str, Any], backend: str) -> TaskResult[..., Any]:
    task = import_string(path)
    if not isinstance(task, Task):
        raise PermanentError(f"{path} is no task", fix="Decorate it with django.tasks.task.")
    result = (records.load(request.id) if records.are_kept() else None) or records.new(
        task, request.id, args, kwargs, backend
    )
    now = timezone.now()
    records.change(
        result,
        status=TaskResultStatus.RUNNING,
        started_at=result.started_at or now,
        last_attempted_at=now,
        finished_at=None,
        worker_ids=[*result.worker_ids, request.hostname],
    )
    return result


def _call(result: TaskResult[..., Any]) -> Any:
    context: list[Any] = [TaskContext(task_result=result)] if result.task.takes_context else []
    return result.task.call(*context, *result.args, **result.kwargs)


def _end(result: TaskResult[..., Any], sender: type, status: TaskResultStatus, **values: Any) -> None:
    records.change(result, status=status, finished_at=timezone.now(), **values)
    records.save(result)
    task_finished.send(sender=sender, task_result=result)


def _error(error: BaseException) -> TaskError:
    kind = type(error)
    text = redact_text("".join(format_exception(error)))
    return TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=text)
