"""Declares tasks for one test and forgets them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from koan_django.scheduling import Every, declarations, scheduled


@pytest.fixture
def declare() -> Iterator[Callable[..., Any]]:
    """``declare(function, seconds=5, name="tests.x", **options)``: as ``@scheduled`` does, for this test alone.

    ``trigger=`` instead of ``seconds=`` is another trigger.
    """
    kept = dict(declarations.declared._items)

    def do(target: Any, *, seconds: float = 60, trigger: Any = None, **options: Any) -> Any:
        return scheduled(trigger or Every(seconds=seconds), **options)(target)

    yield do
    declarations.declared._items = kept
    declarations.conflicts.clear()
    declarations.broken.clear()


@pytest.fixture
def task(declare: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a task and return its row."""
    from koan_django.scheduling.models import ScheduledTask
    from koan_django.scheduling.syncing import sync

    def do(target: Any = lambda: None, *, name: str = "tests.task", **options: Any) -> ScheduledTask:
        declare(target, name=name, **options)
        sync()
        return ScheduledTask.objects.get(name=name)

    return do
