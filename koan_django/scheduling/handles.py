"""``Run``: what a scheduled task is given to know itself by and to say how it goes."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from koan_django.core import clock
from koan_django.core.redaction import redact, redact_text

from .exceptions import RunCancelledError

logger = logging.getLogger(__name__)

LOG_LINES, LOG_LENGTH = 200, 8000
RESULT_BYTES = 4096


@dataclass(eq=False, kw_only=True)
class Run:
    """One run of a scheduled task, as the task itself sees it.

    ``progress``, ``log`` and ``result`` touch no database and so may be called from ``async`` code too; what they say
    reaches the row with the next renewal of the lease (every third of ``KOAN["SCHEDULING"]["LEASE"]``) and at the end.
    """

    id: UUID
    task: str
    #: ``schedule``, ``startup``, ``manual``, or ``catch-up`` after an interrupted run or for a time that was missed.
    trigger: str
    planned_at: datetime
    started_at: datetime
    #: 1, and one more for each run before this one that was interrupted.
    attempt: int
    #: When the run has to be over, or ``None``.
    deadline: datetime | None
    #: From the planned time of the run before to this one's, or ``None`` for the first.
    interval: timedelta | None
    #: When a run last ended well, or ``None``.
    previous_success: datetime | None
    #: Rises with every run of the task: a store that remembers the highest can refuse a run that was left for dead.
    fencing_token: int
    _timeout: timedelta | None = field(default=None, repr=False)
    _renew: Callable[..., None] = field(repr=False)
    _lost: Callable[[], bool] = field(default=lambda: False, repr=False)
    _began: float = field(default_factory=clock.monotonic, repr=False)
    _progress: dict[str, Any] | None = field(default=None, repr=False)
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES), repr=False)
    _result: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return clock.monotonic() - self._began

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._timeout is not None and self.elapsed > self._timeout.total_seconds()

    @property
    def cancelled(self) -> bool:
        """Whether the run should end: its deadline has passed, or its lease is known to be lost."""
        return self.expired or self._lost()

    def raise_if_cancelled(self) -> None:
        """Raise :class:`RunCancelledError` when :attr:`cancelled`; call it between the steps of long work."""
        if self.cancelled:
            reason = "its time is over" if self.expired else "its lease is lost"
            raise RunCancelledError(f"the run {self.id} of {self.task} is cancelled", why=reason)

    def heartbeat(self) -> None:
        """Renew the lease and write progress and log now; raises ``LeaseLostError`` when it is lost.

        A thread does it all the time: call this where what was said must be seen at once, never from ``async`` code.
        """
        self._renew(**self.values())

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Say that ``done`` of ``total`` is done."""
        self._progress = {"done": done, "total": total, "note": redact_text(note)[:200]}

    def log(self, text: str) -> None:
        """Keep ``text`` with the run (its last 200 lines) and write it to the log."""
        line = redact_text(text)
        self._lines.append(f"{timezone.now():%H:%M:%S} {line}")
        logger.info("%s: %s", self.task, line)

    def result(self, **values: Any) -> None:
        """Keep ``values`` as the result of the run; a second call adds to the first. Small JSON: 4 KB in all."""
        self._result.update(values)

    def values(self) -> dict[str, Any]:
        """Return the columns that the run itself fills."""
        return {"progress": self._progress, "log": "\n".join(self._lines)[-LOG_LENGTH:], "result": self._bounded()}

    def _bounded(self) -> dict[str, Any] | None:
        text = json.dumps(redact(self._result), default=str)
        if len(text) > RESULT_BYTES:
            return {"truncated": f"the result has more than {RESULT_BYTES} bytes"}
        kept: dict[str, Any] = json.loads(text)
        return kept or None
