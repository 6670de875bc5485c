"""What may be scheduled: a function or a class with ``run()``, with or without a parameter for the :class:`Run`."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from celery.local import Proxy

from .exceptions import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .handles import Run


def takes_run(target: Any) -> bool:
    """Whether ``target`` wants a :class:`Run`; raises :class:`DeclarationError` when it cannot be scheduled.

    The type is asked before anything else: reading an attribute of a lazy Celery task would make it a task of
    whatever Celery app exists at that moment.
    """
    if issubclass(type(target), Proxy):
        raise _refused("a Celery task", "the decorator of Celery made it one", "Put @scheduled below @shared_task.")
    if inspect.isclass(target):
        return _wants_run(_method_of(target), target, skipped=1)
    if inspect.isfunction(target):
        return _wants_run(target, target, skipped=0)
    why = "only a function or a class with run() has a name and a place of its own"
    raise _refused(repr(target), why, "Put @scheduled directly above the def.")


def call(target: Any, takes: bool, run: Run) -> None:
    """Run ``target`` to its end, on an event loop of its own when it is ``async``."""
    instance: Any = target() if inspect.isclass(target) else None
    function = target if instance is None else instance.run
    outcome = function(run) if takes else function()
    if inspect.isawaitable(outcome):
        asyncio.run(_awaited(outcome))


async def _awaited(outcome: Awaitable[object]) -> None:
    from asgiref.sync import sync_to_async
    from django.db import connections

    try:
        await outcome
    finally:
        # Queries of async code run on a thread that outlives the loop: its connections would go stale there.
        await sync_to_async(connections.close_all)()


def _method_of(target: type) -> Callable[..., object]:
    method = getattr(target, "run", None)
    if not inspect.isfunction(method):
        raise _refused(_named(target), "the class has no run()", "Give it one: def run(self, run: Run) -> None.")
    try:
        inspect.signature(target).bind()
    except TypeError:
        why = "an instance is made for each run, without arguments"
        raise _refused(_named(target), why, "Give the parameters of __init__ a default.") from None
    return method


def _wants_run(function: Callable[..., object], target: Any, *, skipped: int) -> bool:
    parameters = list(inspect.signature(function).parameters.values())[skipped:]
    needed = [each for each in parameters if each.default is each.empty and each.kind not in _VARIADIC]
    if len(needed) > 1 or any(each.kind is each.KEYWORD_ONLY for each in needed):
        why = f"it needs {', '.join(each.name for each in needed)}"
        raise _refused(_named(target), why, "Take nothing, or one parameter for the Run.")
    return bool(needed)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _named(target: Any) -> str:
    return f"{target.__module__}.{target.__qualname__}"


def _refused(what: str, why: str, fix: str) -> DeclarationError:
    return DeclarationError(f"{what} cannot be scheduled", why=why, fix=fix)
