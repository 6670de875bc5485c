"""What became of a delivery in the pool, and what the bus must do about it."""

from __future__ import annotations

import hashlib
import traceback as tracebacks
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from koan_django.core.classification import is_transient
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.redaction import redact
from koan_django.core.texts import clean
from koan_django.messaging.exceptions import BusyError, UnhandledMessageError, UnreadableMessageError

if TYPE_CHECKING:
    from koan_django.messaging.envelope import Delivery
    from koan_django.messaging.handlers import Handler

#: ``handled`` and ``duplicate`` are over; ``postpone`` comes back in a moment without counting an attempt; ``again``
#: was not run and is handed out again at once; ``alone`` is run again in a batch of its own; ``stop`` keeps its
#: partition until somebody decides.
Outcome = Literal["handled", "duplicate", "retry", "postpone", "dead", "again", "alone", "stop"]

POSTPONE = timedelta(seconds=2)
TRACEBACK_LENGTH = 12_000
ERROR_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one delivery; it crosses a process boundary, so it holds plain values only."""

    outcome: Outcome
    handler: str = ""
    reason: str = ""
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    wait: timedelta = timedelta(0)
    #: What handling took, spread over the batch; the consumer sizes its batches by it.
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Equal for dead letters with the same cause: the handler, the error and where it was raised."""
        where = [line.strip() for line in self.traceback.splitlines() if line.strip().startswith("File ")]
        text = "\n".join((self.handler, self.reason, self.error_type, where[-1] if where else ""))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def postponed(handler: Handler | None, error: BaseException) -> Verdict:
    """Look again in a moment: the handler was not called, or somebody else has the message."""
    return _verdict("postpone", handler, error, wait=POSTPONE)


def dead(handler: Handler | None, error: BaseException) -> Verdict:
    """Give up on a message that was tried often enough."""
    return _verdict("dead", handler, error, reason="exhausted")


def failed(delivery: Delivery, handler: Handler | None, error: BaseException) -> Verdict:
    """Decide between another attempt and the dead letters; what is in order may stop its partition instead."""
    verdict = _judged(delivery, handler, error)
    if verdict.outcome == "dead" and delivery.partition is not None and handler and handler.on_failure == "stop":
        return replace(verdict, outcome="stop")
    return verdict


def _judged(delivery: Delivery, handler: Handler | None, error: BaseException) -> Verdict:
    if isinstance(error, BusyError | LeaseLostError):  # somebody else has it; looking again tells how it ended
        return postponed(handler, error)
    if isinstance(error, UnreadableMessageError):
        return _verdict("dead", handler, error, reason="unreadable")
    if handler is None or isinstance(error, UnhandledMessageError):
        return _verdict("dead", handler, error, reason="unhandled")
    if not is_transient(error):
        return _verdict("dead", handler, error, reason="permanent")
    if delivery.envelope.attempt >= handler.attempts:
        return dead(handler, error)
    return _verdict("retry", handler, error, wait=handler.retry.jittered(delivery.envelope.attempt + 1))


def _verdict(
    outcome: Outcome,
    handler: Handler | None,
    error: BaseException,
    *,
    reason: str = "",
    wait: timedelta = timedelta(0),
) -> Verdict:
    trace = "".join(tracebacks.format_exception(error)) if error.__traceback__ is not None else ""
    return Verdict(
        outcome=outcome,
        handler=handler.name if handler else "",
        reason=reason,
        error_type=clean(f"{type(error).__module__}.{type(error).__qualname__}", 255),
        error=clean(redact(_text_of(error)), ERROR_LENGTH),
        traceback=clean(redact(trace))[-TRACEBACK_LENGTH:],
        wait=wait,
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # somebody else's __str__
        return "an error that cannot be shown"
