"""Work that must not hold up a request: a job is sent after the transaction commits.

Core knows no Celery. ``koan_django.celery.install(app)`` makes each job a Celery task of the same name; without it a
job runs in the process that dispatched it, after the commit. A job carries row ids only, and does nothing that its
rows do not ask for: whoever runs it twice, or never, is put right by its sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, ParamSpec, Protocol

from django.db import transaction

from .context import restore, snapshot
from .registry import Registry, place_of
from .telemetry import span

P = ParamSpec("P")
logger = logging.getLogger(__name__)

#: What a job whose limit struck has to leave, before its process is killed.
LIMIT_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """A function that may run elsewhere. ``every`` is the period of its sweep, if it has one.

    ``limit`` is the time after which whoever can (a prefork worker) interrupts it; a copy made with
    ``dataclasses.replace(job, limit=...)`` carries another one.
    """

    name: str
    function: Callable[P, object]
    every: timedelta | None = None
    limit: timedelta | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run here and now."""
        with span("core.job", job=self.name):
            self.function(*args, **kwargs)

    def dispatch(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run once the current transaction has committed, elsewhere if there is an elsewhere."""
        context = snapshot()

        def send() -> None:  # a function: Django asks a callback for its name when it fails
            _send(self, args, kwargs, context)

        transaction.on_commit(send, robust=True)


class Dispatcher(Protocol):
    """Sends a job away, or runs it."""

    def send(self, job: Job[...], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Mapping[str, str]) -> None:
        """Have ``job`` run with JSON arguments in ``context``."""


class InlineDispatcher:
    """Runs the job here. A failure is logged: the sweep tries again, the caller has committed already."""

    def send(self, job: Job[...], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Mapping[str, str]) -> None:
        with restore(context):
            try:
                job(*args, **kwargs)
            except Exception:
                logger.exception("The job %s failed; its sweep tries again", job.name)


jobs: Registry[Job[...]] = Registry("job")
_dispatcher: Dispatcher = InlineDispatcher()
_watchers: list[Callable[[Job[...]], None]] = []


def job(name: str, *, every: timedelta | None = None) -> Callable[[Callable[P, object]], Job[P]]:
    """Make a function a job. ``name`` is dotted and begins with the app's label: ``koan_storage.purge``."""

    def decorate(function: Callable[P, object]) -> Job[P]:
        made = Job(name, function, every)
        jobs.add(name, made, origin=place_of(function))
        for watcher in _watchers:
            watcher(made)
        return made

    return decorate


def watch(watcher: Callable[[Job[...]], None]) -> None:
    """Call ``watcher`` with every job, those declared already and those to come."""
    _watchers.append(watcher)
    for known in jobs:
        watcher(known)


def use(dispatcher: Dispatcher) -> Dispatcher:
    """Send jobs by ``dispatcher`` from now on; return the one in force before."""
    global _dispatcher
    before, _dispatcher = _dispatcher, dispatcher
    return before


def described() -> tuple[str, str]:
    """Return who runs jobs and why, in words."""
    if isinstance(_dispatcher, InlineDispatcher):
        return "this process", "koan_django.celery.install(app) was not called here"
    return type(_dispatcher).__name__.removesuffix("Dispatcher"), "koan_django.celery.install(app) was called"


def _send(made: Job[...], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Mapping[str, str]) -> None:
    try:
        _dispatcher.send(made, args, kwargs, context)
    except Exception:
        logger.exception("The job %s could not be sent; its sweep makes up for it", made.name)
