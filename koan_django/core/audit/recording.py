"""Writes audit events: a plain insert in the caller's transaction, so it is committed or rolled back with the deed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from koan_django.core.context import correlation, tenant
from koan_django.core.process import identity
from koan_django.core.redaction import redact, redact_text
from koan_django.core.section import options
from koan_django.core.texts import clean

from . import actors, requests

if TYPE_CHECKING:
    from datetime import datetime

    from django.db import models

    from .actors import Actor
    from .models import AuditEvent

#: What one event may hold, as JSON. It is a record of a deed, not a copy of its object.
DATA_BYTES = 8192
#: Beyond it databases disagree about whole numbers in JSON.
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Reference:
    """What was acted on, where it is no row of a model: ``Reference("secret", "app/db#password")``."""

    kind: str
    id: str
    text: str = ""


def record(
    action: str,
    obj: models.Model | Reference | None = None,
    *,
    actor: Actor | None = None,
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> AuditEvent | None:
    """Record that ``action`` (dotted, as ``orders.refund``) was done to ``obj``, and return the event.

    The actor is the user of the request, the caller of a command or the process, unless one is given. ``data`` is
    redacted and bounded. Returns ``None`` for an action that the option ``EXCLUDE`` names.
    """
    if is_excluded(action):
        return None
    requests.touch()
    made = event(action, obj, actor=actor, data=data, at=at)
    made.save()
    return made


async def arecord(action: str, obj: models.Model | Reference | None = None, **kwargs: Any) -> AuditEvent | None:
    """Async twin of :func:`record`."""
    return await sync_to_async(record)(action, obj, **kwargs)


def is_excluded(action: str) -> bool:
    """Whether ``action`` is not to be recorded. What is done to the audit itself always is."""
    if action.startswith("audit."):
        return False
    return any(fnmatchcase(action, pattern) for pattern in options().audit.exclude)


def event(
    action: str,
    obj: models.Model | Reference | None = None,
    *,
    actor: Actor | None = None,
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> AuditEvent:
    """Return an unsaved event."""
    from .models import AuditEvent

    who = actor or actors.current()
    reference = reference_to(obj)
    return AuditEvent(
        at=at or timezone.now(),
        action=clean(action, 100),
        actor=clean(redact_text(who.name), 200),
        actor_reference=clean(who.reference, 200),
        process=identity(),
        object_type=clean(reference.kind, 150),
        object_id=clean(redact_text(reference.id), 255),
        object_text=clean(redact_text(reference.text), 255),
        correlation_id=correlation.current() or "",
        tenant=tenant.current() or "",
        data=bounded(data or {}),
    )


def reference_to(obj: models.Model | Reference | None) -> Reference:
    """Return how an event names ``obj``."""
    if obj is None:
        return Reference("", "")
    if isinstance(obj, Reference):
        return Reference(obj.kind, obj.id, obj.text or obj.id)
    return Reference(obj._meta.label_lower, str(obj.pk), str(obj))


def bounded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` redacted, as plain JSON that every database gives back as it was put in."""
    kept: dict[str, Any] = _plain(redact(data))
    size = len(json.dumps(kept))
    if size <= DATA_BYTES:
        return kept
    return {"truncated": f"{size} bytes", "keys": [clean(key, 64) for key in list(kept)[:50]]}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {clean(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return clean(redact_text(str(value)))
