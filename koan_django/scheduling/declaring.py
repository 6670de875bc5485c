"""``@scheduled``: have a function or a class run on a schedule."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, overload

from .cron import Cron
from .declarations import Declaration, declare
from .exceptions import DeclarationError
from .targets import takes_run
from .triggers import Every, Trigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .handles import Run

    class TakesRun(Protocol):
        """A class whose ``run`` wants the :class:`Run`."""

        def run(self, run: Run, /) -> Awaitable[None] | None: ...

    class TakesNothing(Protocol):
        """A class whose ``run`` wants nothing."""

        def run(self) -> Awaitable[None] | None: ...

    C = TypeVar("C", bound=TakesRun | TakesNothing)
    F = TypeVar("F", bound=Callable[[Run], Awaitable[None] | None] | Callable[[], Awaitable[None] | None])

Misfire: TypeAlias = Literal["run-once", "skip"]
_MISFIRES = ("run-once", "skip")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Scheduled:
    """The decorator that :func:`scheduled` returns. It gives its target back unchanged."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    @overload
    def __call__(self, target: type[C]) -> type[C]: ...
    @overload
    def __call__(self, target: F) -> F: ...
    def __call__(self, target: Any) -> Any:
        declare(Declaration(target=target, takes_run=takes_run(target), **self._options))
        return target


def scheduled(
    trigger: Trigger,
    *,
    name: str | None = None,
    on_startup: bool = False,
    critical: bool = False,
    timeout: float | timedelta | None = None,
    max_concurrency: int = 1,
    misfire: Misfire | None = None,
) -> Scheduled:
    """Run the decorated function or class (its ``run()``), sync or ``async``, whenever ``trigger`` says so.

    ``name`` pins what is else ``<app label>.<name in kebab case>``; a task that is renamed is a new task.
    ``on_startup`` runs it also when beat starts; beats that start within a minute of each other count as one.
    ``critical`` makes the health of the whole depend on it.
    ``max_concurrency`` counts runs in the whole cluster. Runs of the schedule never overlap each other, so it decides
    how many runs asked for by hand may go on beside one.

    ``misfire`` says what becomes of times of a ``Cron`` that could not be kept, because beat was away or the run
    before went on for longer: ``"run-once"`` (without it) runs once as soon as it can, for however many were missed;
    ``"skip"`` waits for the next and leaves a run in state ``skipped``. Up to a minute late is not missed.

    ``timeout`` is in seconds. In a prefork worker Celery's soft limit interrupts the run by an exception, and its hard
    limit ends the process ten seconds later. Threads and solo pools, and runs inside a request or a command, cannot be
    interrupted: ``run.cancelled`` turns true there. Everywhere a run that outlives its timeout is recorded as
    ``timeout``, also one that hangs, and the task goes on with its next run.

    Raises :class:`DeclarationError` for what cannot work.
    """
    if not isinstance(trigger, Every | Cron):
        raise DeclarationError(f"{trigger!r} is not a trigger", fix="Write @scheduled(Every(minutes=5)).")
    if misfire is not None and (misfire not in _MISFIRES or isinstance(trigger, Every)):
        raise DeclarationError(
            f"misfire={misfire!r} cannot work",
            why="Every has no planned times to miss" if isinstance(trigger, Every) else f"it is one of {_MISFIRES}",
            fix="Leave it out, or use it with Cron.",
        )
    if name is not None and not _NAME.fullmatch(name):
        raise DeclarationError(f"{name!r} is not a name of a task", why=f"it must match {_NAME.pattern}")
    if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
        raise DeclarationError(f"max_concurrency={max_concurrency!r} cannot work", fix="Give a whole number from 1.")
    return Scheduled(
        trigger=trigger,
        name=name or "",
        on_startup=on_startup,
        critical=critical,
        timeout=_duration(timeout),
        max_concurrency=max_concurrency,
        misfire=misfire or "run-once",
    )


def _duration(timeout: float | timedelta | None) -> timedelta | None:
    if timeout is None:
        return None
    given = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    if given <= timedelta(0):
        raise DeclarationError(f"timeout={timeout!r} cannot work", fix="Give seconds above 0, or None for no limit.")
    return given
