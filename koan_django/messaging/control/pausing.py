"""The kill switch: a paused handler gets nothing, and its messages stay where they are.

Workers notice within two seconds, see :mod:`koan_django.core.policy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from koan_django.core import audit, policy
from koan_django.core.audit.actors import current
from koan_django.core.health import Finding, shared
from koan_django.core.redaction import redact_text
from koan_django.core.suggestions import did_you_mean
from koan_django.core.texts import clean
from koan_django.messaging import handlers
from koan_django.messaging.exceptions import MessagingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.messaging.models import RegisteredHandler

    from .registering import RegisteredHandlerQuerySet


def pause(name: str, reason: str = "") -> None:
    """Hand nothing more to the handler called ``name``, in all workers, until somebody resumes it.

    A handler that no worker has had yet is paused as well, if this process knows it. Raises :class:`MessagingError`
    for one that is unknown or paused already.
    """
    reason = clean(redact_text(reason), 500)
    rows = _rows()
    with transaction.atomic(using=rows.db):
        row = _find(name)
        if not rows.pause(name, reason, current().name):
            raise MessagingError(f"{name} is left as it is", why="somebody has paused it already")
        audit.record("messaging.pause", row, data={"reason": reason})
        policy.announce(f"handler {name}", using=rows.db)


def resume(name: str) -> None:
    """Let the handler called ``name`` work again; raises :class:`MessagingError` unless it is paused."""
    rows = _rows()
    with transaction.atomic(using=rows.db):
        row = _find(name)
        if not rows.resume(name):
            raise MessagingError(f"{name} is not resumed", why="it is not paused")
        audit.record("messaging.resume", row)
        policy.announce(f"handler {name}", using=rows.db)


def _read() -> dict[str, str]:
    found = _rows().filter(paused=True).values_list("name", "pause_reason", "paused_by")
    return {name: f"paused by {by}" + (f": {reason}" if reason else "") for name, reason, by in found}


#: The paused handlers by name, each with why; kept until the policy version changes.
paused = policy.Cached(_read)


@shared("messaging.handlers")
def findings() -> Iterator[Finding]:
    """Every handler that is paused: it is easily forgotten."""
    for row in _rows().filter(paused=True):
        why = f": {row.pause_reason}" if row.pause_reason else ""
        since = f"{row.paused_at:%Y-%m-%d %H:%M}" if row.paused_at else "-"
        yield Finding(f"messaging.handler.{row.name}", "degraded", f"paused since {since} by {row.paused_by}{why}")


def _find(name: str) -> RegisteredHandler:
    """Return the row of ``name``, written now if code declares it and no worker was there yet."""
    rows = _rows()
    row = rows.filter(name=name).first()
    if row is None:
        rows.declare([each for each in handlers.every() if each.name == name])
        row = rows.filter(name=name).first()
    if row is None:
        known = {*rows.values_list("name", flat=True), *(each.name for each in handlers.every())}
        raise MessagingError(
            f"there is no handler {name!r}{did_you_mean(name, known)}", fix="`koan_handlers list` shows their names."
        )
    return row


def _rows() -> RegisteredHandlerQuerySet:
    from koan_django.messaging.models import RegisteredHandler

    return RegisteredHandler.objects.all().primary()
