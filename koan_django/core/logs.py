"""Logging as a subscriber of the telemetry events, and the filter that gives each record its context."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from . import hints
from .context import correlation, tenant
from .redaction import redact, redact_text
from .telemetry import subscribe
from .texts import one_line

if TYPE_CHECKING:
    from .telemetry import Event, Phase


#: What every record has, and the two names that ContextFilter adds.
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "correlation_id", "tenant"}
_LEVELS = {"start": logging.DEBUG, "exception": logging.WARNING}


class ContextFilter(logging.Filter):
    """Adds ``correlation_id`` and ``tenant`` to each record, ``-`` where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.correlation_id = correlation.current() or "-"
        record.tenant = tenant.current() or "-"
        return True


class RedactionFilter(logging.Filter):
    """Masks registered secrets in a record: its message, its traceback and what was passed as ``extra``.

    Put it on a handler. The traceback is formatted here, so a formatter that formats it anew must redact by itself.
    """

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact_text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        for name, value in record.__dict__.items():
            if name in ("exc_text", "stack_info") and value:
                record.__dict__[name] = redact_text(value)
            elif name not in _STANDARD:
                record.__dict__[name] = redact(value, name)
        return True


@cache
def _logger_of(name: str) -> logging.Logger:
    return logging.getLogger(f"koan_django.{name.partition('.')[0]}")


@cache
def connect() -> None:
    """Write events from now on; once, however often Django loads its apps, as tests with other apps have it do."""
    subscribe(log_event, wants=is_logged)


def is_logged(name: str, phase: Phase) -> bool:
    """Whether the logger of the app that ``name`` begins with writes events of this phase."""
    return _logger_of(name).isEnabledFor(_LEVELS.get(phase, logging.INFO))


def log_event(event: Event) -> None:
    """Write ``event`` to the logger of its app: a failure as a warning, an end as info, a start as debug."""
    words = [f"{key}={one_line(redact(value, key))}" for key, value in event.metadata.items()]
    if event.duration is not None:
        words.append(f"duration_ms={event.duration * 1000:.1f}")
    if event.error is not None:
        words.append(f"error={type(event.error).__name__}: {one_line(redact(str(event.error)))}")
        hint = hints.explain(event.error)
        if hint is not None:
            words.append(f"hint={hint.advice()}")
    _logger_of(event.name).log(
        _LEVELS.get(event.phase, logging.INFO), "%s %s %s", event.name, event.phase, " ".join(words)
    )
