"""Verbs of the rows of handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import models, router
from django.db.models import F, Value
from django.db.models.functions import Greatest

from koan_django.core.functions import Now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from koan_django.messaging.handlers import Handler
    from koan_django.messaging.models import RegisteredHandler  # noqa: F401  # named in a base class as text

TEXT_LENGTH = 255
ERROR_LENGTH = 500


@dataclass(slots=True)
class Counts:
    """What a worker has counted of one handler since it last wrote. ``worst`` and ``seconds`` are in seconds."""

    handled: int = 0
    retried: int = 0
    dead: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    last_error: str = ""


class RegisteredHandlerQuerySet(models.QuerySet["RegisteredHandler"]):
    """The handlers that workers have declared."""

    def primary(self) -> RegisteredHandlerQuerySet:
        """Read where is written: a replica may not know of a pause yet."""
        return self.using(router.db_for_write(self.model))

    def declare(self, declared: Sequence[Handler]) -> None:
        """Write what code says of its handlers; counters and pauses stay as they are."""
        known = {row.name: row for row in self.filter(name__in=[each.name for each in declared])}
        missing = [each for each in declared if each.name not in known]
        self.bulk_create([self.model(name=each.name, **_described(each)) for each in missing], ignore_conflicts=True)
        for each in declared:
            row = known.get(each.name)
            described = _described(each)
            if row is not None and any(getattr(row, column) != value for column, value in described.items()):
                self.filter(pk=row.pk).update(**described)

    def seen(self, names: Iterable[str]) -> int:
        """Note that a worker has these; return how many have a row."""
        return self.filter(name__in=list(names)).update(last_seen=Now())

    def add(self, name: str, counts: Counts) -> int:
        """Add what was counted, in one statement, so that workers never overwrite each other."""
        changes: dict[str, object] = {
            column: F(column) + value
            for column in ("handled", "retried", "dead", "duplicates")
            if (value := getattr(counts, column))
        }
        if counts.handled:
            changes |= {
                "total_ms": F("total_ms") + counts.seconds * 1000,
                "worst_ms": Greatest(F("worst_ms"), Value(counts.worst * 1000)),
                "last_handled_at": Now(),
            }
        if counts.last_error:
            changes |= {"last_error": counts.last_error[:ERROR_LENGTH], "last_error_at": Now()}
        return self.filter(name=name).update(**changes) if changes else 0

    def pause(self, name: str, reason: str, by: str) -> int:
        """Pause one that is not paused; return whether it was."""
        changes = {"paused": True, "pause_reason": reason[:ERROR_LENGTH], "paused_by": by[:200], "paused_at": Now()}
        return self.filter(name=name, paused=False).update(**changes)

    def resume(self, name: str) -> int:
        """Resume one that is paused; return whether it was."""
        changes = {"paused": False, "pause_reason": "", "paused_by": "", "paused_at": None}
        return self.filter(name=name, paused=True).update(**changes)

    def unseen(self, longer_than: timedelta) -> RegisteredHandlerQuerySet:
        """Those that no worker has had for so long."""
        return self.filter(last_seen__lt=Now() - longer_than)


def _described(handler: Handler) -> dict[str, str]:
    """What code says of a handler, as long as the columns are."""
    return {
        "bus": handler.bus,
        "group": handler.group,
        "binding": handler.binding[:TEXT_LENGTH],
        "origin": handler.origin[:TEXT_LENGTH],
    }
