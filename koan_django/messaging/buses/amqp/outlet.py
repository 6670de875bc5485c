"""Publishes the retries and dead letters of a consumer.

The delivery they come from is acknowledged once the broker has confirmed them. Until then it is unacknowledged, so
whatever happens here nothing is lost: a publish that failed is made again in a moment.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from koan_django.core.telemetry import emit
from koan_django.messaging import handlers
from koan_django.messaging.envelope import Delivery
from koan_django.messaging.exceptions import PublishError
from koan_django.messaging.handling.verdicts import Verdict

from .bridge import dead_headers
from .properties import NO_HEADERS
from .unconfirmed import Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from koan_django.core.retry import RetryPolicy
    from koan_django.messaging.buses.broker import Outcome

    from .bus import AmqpBus

PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Parcel:
    """What is published for a delivery. ``bare`` once its headers turned out to be too large."""

    epoch: int
    delivery: Delivery
    verdict: Verdict
    bare: bool = False


class Outlet:
    """Owned by the consuming thread; only the answers come from another. ``trouble`` says what is wrong."""

    def __init__(self, bus: AmqpBus, wake: Callable[[], None]) -> None:
        self._bus = bus
        self._wake = wake
        self._answers: deque[tuple[_Parcel, Outcome]] = deque()
        self._later: deque[tuple[float, _Parcel]] = deque()
        self._epoch = 0
        self.trouble = ""

    def publish(self, delivery: Delivery, verdict: Verdict) -> None:
        """Have the retry or the dead letter of ``delivery`` published."""
        self._submit(_Parcel(self._epoch, delivery, verdict))

    def confirmed(self) -> Iterator[Delivery]:
        """Yield the deliveries whose retry or dead letter the broker has; try again what failed a moment ago.

        Raises :class:`PublishError` when a queue is missing: a new connection declares it.
        """
        while self._later and self._later[0][0] <= time.monotonic():
            self._submit(self._later.popleft()[1])
        while self._answers:
            parcel, outcome = self._answers.popleft()
            if parcel.epoch != self._epoch:
                continue
            if outcome.state == "confirmed":
                self.trouble = ""
                yield parcel.delivery
            else:
                self._failed(parcel, outcome)

    def forget(self) -> None:
        """The consumer's connection is gone: its deliveries come again."""
        self._epoch += 1
        self._later.clear()

    def _failed(self, parcel: _Parcel, outcome: Outcome) -> None:
        what = f"a retry or dead letter of {parcel.delivery.group!r} was not published"
        emit("messaging.settle_failed", bus=self._bus.alias, reason=outcome.reason)
        if outcome.state == "returned" or (outcome.state == "impossible" and parcel.bare):
            raise PublishError(what, why=outcome.reason)
        self.trouble = f"{what}: {outcome.reason}"
        bare = parcel.bare or outcome.state == "impossible"
        self._later.append((time.monotonic() + PAUSE_SECONDS, replace(parcel, bare=bare)))

    def _submit(self, parcel: _Parcel) -> None:
        names, delivery, verdict = self._bus.names, parcel.delivery, parcel.verdict
        envelope, headers = delivery.envelope, NO_HEADERS
        if verdict.outcome == "dead":
            exchange, key = "", names.dead(delivery.group)
            headers = dead_headers(verdict, brief=parcel.bare)
        else:
            exchange, key = self._way_back(verdict, names.group(delivery.group))
            if verdict.outcome == "retry":
                envelope = envelope.next_attempt()
        answered = partial(self._answered, parcel)
        self._bus.publisher.submit([Publication(exchange, key, envelope, headers, parcel.bare, answered)])

    def _way_back(self, verdict: Verdict, queue: str) -> tuple[str, str]:
        """Exchange and routing key: by a bucket to ``queue``, or straight to its end."""
        if not verdict.wait:
            return "", queue
        found = handlers.named(verdict.handler)
        policy = found.retry if found else self._bus.options.retry
        return self._bus.names.retry(_bucket(policy, verdict.wait)), queue

    def _answered(self, parcel: _Parcel, publication: Publication) -> None:
        """Called by whoever publishes then."""
        self._answers.append((parcel, publication.outcome))
        self._wake()


def _bucket(policy: RetryPolicy, wait: timedelta) -> timedelta:
    """The longest bucket within ``wait``, or at random the next one: a bucket cannot be jittered."""
    steps = policy.steps()
    index = max((i for i, step in enumerate(steps) if step <= wait), default=0)
    if index + 1 < len(steps) and random.random() < policy.jitter:  # noqa: S311  # spreads load
        index += 1
    return steps[index]
