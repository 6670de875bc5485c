"""The trail of one upload: every step that any app recorded for it, in the order in which it happened."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.urls import reverse

from koan_django.media.models import Derivation
from koan_django.messaging.models import DeadLetter, MessageEvent
from koan_django.scheduling.models import TaskRun

from .models import Photo, Upload

if TYPE_CHECKING:
    from collections.abc import Iterable

TROUBLED = frozenset({"retried", "postponed", "dead", "failed", "parked"})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: when, what, the admin row that says so, who did it and how long it took.

    ``attempt`` counts from 1; ``None`` where nothing is attempted a second time.
    """

    at: datetime
    kind: str
    title: str
    admin: str
    detail: str = ""
    who: str = ""
    ms: float | None = None
    attempt: int | None = None


def steps(upload: Upload) -> list[Step]:
    """Return the steps, oldest first."""
    photo = Photo.objects.filter(upload=upload).first()
    events = _events(upload)
    found = [_uploaded(upload), *_messages(events), *_dead(events)]
    if photo is not None:
        found += [*_derived(photo), *_shown(photo)]
    if upload.state == Upload.State.REFUSED and upload.settled_at:
        found.append(_refused(upload, upload.settled_at))
    return sorted(found, key=lambda step: step.at)


def as_json(step: Step, *, for_staff: bool) -> dict[str, Any]:
    """Return ``step`` with its time as text. What an error says is for staff: it may name keys and hosts."""
    detail = step.detail if for_staff or step.kind not in TROUBLED else ""
    return {**asdict(step), "detail": detail, "at": step.at.isoformat(timespec="milliseconds")}


def _uploaded(upload: Upload) -> Step:
    detail = f"{upload.received:,} bytes" if upload.received else ""
    who = str(upload.user) if upload.user else "a visitor"
    return Step(upload.created_at, "uploaded", "Uploaded", _row(upload), detail, who)


def _refused(upload: Upload, at: datetime) -> Step:
    return Step(at, "refused", f"Refused at the stage {upload.stage}", _row(upload), upload.reason)


def _events(upload: Upload) -> list[MessageEvent]:
    """What happened to the message of ``upload`` and to those that it caused; other uploads may share its request."""
    mine = Q(message_id=upload.message_id) | Q(causation_id=upload.message_id)
    return list(MessageEvent.objects.filter(mine, correlation_id=upload.correlation_id).order_by("id"))


def _messages(events: Iterable[MessageEvent]) -> list[Step]:
    return [
        Step(
            event.at,
            event.kind,
            f"{event.alias} {event.get_kind_display()}" + (f" by {event.handler}" if event.handler else ""),
            _row(event),
            event.detail,
            event.process,
            event.duration_ms,
            event.attempt,
        )
        for event in events
    ]


def _dead(events: Iterable[MessageEvent]) -> list[Step]:
    letters = DeadLetter.objects.filter(message_id__in={event.message_id for event in events})
    return [
        Step(each.dead_at, "dead", "Dead letter", _row(each), each.error, each.group, attempt=each.attempt)
        for each in letters
    ]


def _derived(photo: Photo) -> list[Step]:
    rows = Derivation.objects.filter(asset=Photo._meta.label_lower, source_pk=str(photo.pk))
    return [
        Step(
            row.finished_at or row.started_at or row.queued_at,
            "derived" if row.state == "ready" else row.state,
            f"{row.recipe} {row.get_state_display()}",
            _row(row),
            f"{row.width} by {row.height}, {row.size:,} bytes" if row.size else row.reason,
            row.lease_owner.rpartition(":")[0],
            row.duration_ms,
            row.attempts or None,
        )
        for row in rows
    ]


def _shown(photo: Photo) -> list[Step]:
    found = []
    if photo.published_at:
        found.append(Step(photo.published_at, "published", "Published", _row(photo)))
    if photo.archived_at:
        run = TaskRun.objects.filter(uuid=photo.archive_run).first() if photo.archive_run else None
        found.append(
            Step(
                photo.archived_at,
                "archived",
                f"Original moved to {photo.profile}",
                _row(run or photo),
                f"scheduled run {photo.archive_run}" if photo.archive_run else "",
                run.worker if run else "",
            )
        )
    return found


def _row(row: Any) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
