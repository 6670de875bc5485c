"""What scheduling has chosen: who fires scheduled tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.facts import Fact, source

from .checks import chosen_scheduler, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator


@source("scheduling")
def scheduling_facts() -> Iterator[Fact]:
    """The scheduler of beat."""
    chosen = chosen_scheduler()
    fires = "it fires @scheduled tasks" if is_ours(chosen) else "it does not fire @scheduled tasks"
    yield Fact("scheduling.beat", str(chosen), f"beat_scheduler of the Celery app: {fires}")
