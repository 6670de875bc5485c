"""The one place that ties into Celery: ``install(app)`` in the project's ``celery.py``.

It makes every job a Celery task of the same name, carries correlation, tenant and trace in the task's headers, lets
the worker consume the message buses and lets beat fire the scheduled tasks. Nothing here reads settings at import.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import django
from celery import signals
from django.apps import apps
from django.core.checks import register

from koan_django.core import boot, dispatch, process
from koan_django.core.context import restore, snapshot
from koan_django.core.reporter import Reporter

from . import checks, folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from koan_django.messaging.outgoing.celerytasks import OutboxTask

__all__ = ["OutboxTask", "install"]

logger = logging.getLogger(__name__)

HEADER = "koan"
DEFAULT_BEAT = "celery.beat:PersistentScheduler"

_contexts: dict[str, ExitStack] = {}
_reporter: Reporter | None = None


def _lazily(name: str) -> Any:
    """Without messaging there is no outbox, and what it needs may be missing."""
    if name != "OutboxTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from koan_django.messaging.outgoing.celerytasks import OutboxTask

    return OutboxTask


if not TYPE_CHECKING:
    __getattr__ = _lazily


def install(app: Celery) -> None:
    """Tie ``app`` to koan-django. Call it once, after ``app.config_from_object(...)``."""
    folders.use()
    dispatch.use(CeleryDispatcher(app))
    dispatch.watch(lambda job: _define(app, job))
    app.on_after_configure.connect(_choose_beat, weak=False)
    _add_steps(app)
    register(checks.check_broker(app), deploy=True)
    register(checks.check_outbox(app))
    for signal, receiver in (
        (signals.before_task_publish, _carry),
        (signals.task_prerun, _enter),
        (signals.task_postrun, _leave),
        (signals.import_modules, _import_task_backends),
        (signals.worker_init, _worker_starts),
        (signals.worker_ready, _worker_ready),
        (signals.worker_shutdown, _worker_ends),
        (signals.beat_init, _beat_starts),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"koan_django.{receiver.__name__}")


class CeleryDispatcher:
    """Sends a job as a Celery task. When the broker is away the job waits for its sweep: its rows are committed."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def send(
        self, job: dispatch.Job[...], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Mapping[str, str]
    ) -> None:
        """Publish the task; a failure is logged and never raised, since the caller has committed."""
        try:
            with restore(context):
                self.app.send_task(job.name, args, dict(kwargs), ignore_result=True, retry=False, **_limits(job))
        except Exception:
            logger.exception("The job %s could not be sent; its sweep does the work later", job.name)


def _limits(job: dispatch.Job[...]) -> dict[str, float]:
    """The soft limit is the job's; the hard one ends a child that does not react. Prefork pools keep both."""
    if job.limit is None:
        return {}
    soft = job.limit.total_seconds()
    return {"soft_time_limit": soft, "time_limit": soft + dispatch.LIMIT_GRACE.total_seconds()}


def _define(app: Celery, job: dispatch.Job[...]) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        job(*args, **kwargs)

    app.task(run, name=job.name, shared=False, ignore_result=True)
    if job.every is not None:
        app.add_periodic_task(job.every.total_seconds(), app.signature(job.name), name=job.name)


def _add_steps(app: Celery) -> None:
    """Named as text: the steps decide when the worker starts whether messaging is installed."""
    app.steps["worker"].add("koan_django.messaging.worker.steps:BusWorkerStep")
    app.steps["consumer"].add("koan_django.messaging.worker.steps:BusConsumerStep")


def _choose_beat(sender: Any, **_: object) -> None:
    """Let beat use our scheduler unless the project chose one."""
    from django.conf import settings

    if "koan_django.scheduling" in settings.INSTALLED_APPS and sender.conf.beat_scheduler == DEFAULT_BEAT:
        sender.conf.beat_scheduler = "koan_django.scheduling.beat:Scheduler"


def _carry(headers: dict[str, Any] | None = None, **_: object) -> None:
    if headers is not None:
        headers.setdefault(HEADER, snapshot())


def _enter(task_id: str = "", task: Any = None, **_: object) -> None:
    carried = getattr(task.request, HEADER, None)
    if isinstance(carried, dict):
        stack = ExitStack()
        stack.enter_context(restore(carried))
        _contexts[task_id] = stack


def _leave(task_id: str = "", **_: object) -> None:
    stack = _contexts.pop(task_id, None)
    if stack is not None:
        stack.close()


def _import_task_backends(**_: object) -> None:
    """Let a worker know the tasks by which the backends of Django's ``TASKS`` run, whoever has declared some."""
    if django.VERSION >= (6, 0):
        from django.tasks import task_backends

        task_backends.all()


def _worker_starts(**_: object) -> None:
    process.set_role("worker")


def _beat_starts(**_: object) -> None:
    process.set_role("beat")
    if apps.is_installed("koan_django.core"):
        boot.report()


def _worker_ready(**_: object) -> None:
    global _reporter
    if apps.is_installed("koan_django.core"):
        boot.log()
        _reporter = Reporter()
        _reporter.start()
    if apps.is_installed("koan_django.scheduling"):
        from koan_django.scheduling.syncing import sync_at_start

        sync_at_start()


def _worker_ends(**_: object) -> None:
    if _reporter is not None:
        _reporter.stop(timeout=5)
