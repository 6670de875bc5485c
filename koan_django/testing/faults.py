"""``fault``: something goes wrong at a named point, in this process or in one that the test starts."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from koan_django.core import faults
from koan_django.core.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: What a process that the test starts is told by: ``name=what@skip``, separated by semicolons.
VARIABLE = "KOAN_TEST_FAULTS"

#: Every point, and the moment that it stands for.
POINTS: Mapping[str, str] = {
    "messaging.outbox.before_commit": "messages are in the outbox, in a transaction that has yet to commit",
    "messaging.handing.committed": "a transaction has committed, and its process is about to publish what it wrote",
    "messaging.broker.before_publish": "messages are about to go to a broker, at once or from the outbox",
    "messaging.relay.before_publish": "the relay has read a batch and not published it",
    "messaging.relay.published": "the broker has confirmed a batch that is still in the outbox",
    "inbox.claim.before_mark": "work that was claimed by a lease is committed, and not marked as processed",
    "messaging.handle.before_commit": "an atomic handler is done, its transaction has yet to commit",
    "messaging.handle.committed": "what a handler did is committed, and the bus does not know",
    "messaging.consumer.before_settle": "verdicts are in, nothing is acknowledged, put back or dead-lettered",
    "messaging.move.before_publish": "a message was taken from a queue that is moved, and is nowhere else",
    "messaging.apply.made": "`koan_topology apply` has made something, and not put it on record",
    "messaging.move.before_ack": "a message that is moved stands in both queues",
    "messaging.migrate.after_switch": "messages go to the temporary queue of a migration",
    "messaging.migrate.after_delete": "the queue is deleted that is to be made anew",
    "messaging.migrate.before_end": "everything is in the new queue, the temporary one still stands",
    "scheduling.fire.before_commit": "runs of due tasks are written, in a transaction that has yet to commit",
    "scheduling.fire.committed": "runs are committed and not sent to a worker",
    "scheduling.run.before_record": "a task is done, its run is not recorded as ended",
    "storage.local.before_replace": "a file is written and flushed beside the one that it replaces",
    "storage.local.replaced": "a file is in its place, its folder is not flushed",
}


@dataclass(slots=True)
class Fault:
    """What is armed. ``passed`` counts how often its point was passed, ``struck`` how often it went wrong there."""

    name: str
    error: BaseException | type[BaseException] | None = None
    kill: bool = False
    delay: float = 0.0
    skip: int = 0
    times: int | None = 1
    passed: int = 0
    struck: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.name not in POINTS:
            raise ValueError(f"there is no fault point {self.name!r}{did_you_mean(self.name, POINTS)}")
        if (self.error is not None) + self.kill + bool(self.delay) != 1:
            raise ValueError("give one of error=, kill=True and delay=")

    def __call__(self) -> None:
        """Strike, unless this time is to be skipped or it was often enough."""
        with self._lock:
            self.passed += 1
            if self.passed <= self.skip or (self.times is not None and self.struck >= self.times):
                return
            self.struck += 1
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error


@contextmanager
def fault(
    name: str,
    *,
    error: BaseException | type[BaseException] | None = None,
    kill: bool = False,
    delay: float = 0.0,
    skip: int = 0,
    times: int | None = 1,
) -> Iterator[Fault]:
    """Have the point ``name`` (:data:`POINTS`) raise ``error``, kill this process, or wait ``delay`` seconds.

    It strikes ``times`` times (``None``: every time), after it was passed ``skip`` times. Raises ``ValueError`` for a
    point that there is not.
    """
    armed = Fault(name, error, kill, delay, skip, times)
    before = faults.arm(name, armed)
    try:
        yield armed
    finally:
        faults.arm(name, before)


def environment(name: str, *, skip: int = 0) -> dict[str, str]:
    """Return the variable that has another process killed at the point ``name``, passed ``skip`` times before.

    That process calls :func:`arm_from_environment`, in the settings that only tests use.
    """
    Fault(name, kill=True)  # or it is refused
    return {VARIABLE: f"{name}@{skip}"}


def arm_from_environment() -> None:
    """Arm what :func:`environment` asks for. For the settings of test processes, never for those of a server."""
    for each in filter(None, os.environ.get(VARIABLE, "").split(";")):
        name, _, skip = each.partition("@")
        faults.arm(name, Fault(name, kill=True, skip=int(skip or 0)))
