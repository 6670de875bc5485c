"""What is known of a task, as one JSON document under its id in Celery's result backend."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import current_app, states
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from django.tasks import TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from django.tasks import Task

_TIMES = ("enqueued_at", "started_at", "last_attempted_at", "finished_at")


def are_kept() -> bool:
    """Whether Celery has a result backend that other processes can read; ``rpc://`` answers the caller alone."""
    return not isinstance(current_app.backend, DisabledBackend | RPCBackend)


def new(task: Task[..., Any], identifier: str, args: Any, kwargs: Any, backend: str) -> TaskResult[..., Any]:
    """Return the result of a task that nobody has begun."""
    return TaskResult(
        task=task,
        id=identifier,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=args,
        kwargs=kwargs,
        backend=backend,
        errors=[],
        worker_ids=[],
    )


def change(result: TaskResult[..., Any], **values: Any) -> None:
    """Change a result, which is frozen for everybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def save(result: TaskResult[..., Any]) -> None:
    """Write what is known of a task, if that is kept."""
    if are_kept():
        current_app.backend.store_result(result.id, dump(result), str(result.status))


def load(identifier: str) -> TaskResult[..., Any] | None:
    """Return what is known of a task, or ``None``."""
    meta = current_app.backend.get_task_meta(identifier, cache=False)
    record = meta.get("result")
    if meta["status"] == states.PENDING or not isinstance(record, dict) or "path" not in record:
        return None
    return parse(identifier, record)


def dump(result: TaskResult[..., Any]) -> dict[str, Any]:
    """Return a result as JSON."""
    times = {name: getattr(result, name) for name in _TIMES}
    return {
        "path": result.task.module_path,
        "status": str(result.status),
        **{name: time and time.isoformat() for name, time in times.items()},
        "args": result.args,
        "kwargs": result.kwargs,
        "backend": result.backend,
        "errors": [[each.exception_class_path, each.traceback] for each in result.errors],
        "worker_ids": result.worker_ids,
        "return_value": getattr(result, "_return_value", None),
    }


def parse(identifier: str, record: dict[str, Any]) -> TaskResult[..., Any]:
    """Read a result; raises ``ImportError`` for a task that is not in the code any more."""
    found = new(import_string(record["path"]), identifier, record["args"], record["kwargs"], record["backend"])
    change(
        found,
        status=TaskResultStatus(record["status"]),
        **{name: time and datetime.fromisoformat(time) for name in _TIMES for time in [record[name]]},
        errors=[TaskError(exception_class_path=path, traceback=text) for path, text in record["errors"]],
        worker_ids=record["worker_ids"],
        _return_value=record["return_value"],
    )
    return found
