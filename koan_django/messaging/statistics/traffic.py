"""What the charts show: throughput, latency and depth of each group over the last hours."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from koan_django.messaging.models import DepthSample, HandlerSample

from . import latency

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A chart has about as many steps, whatever the time that it shows.
STEPS = 60

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class GroupTraffic:
    """One group: a value for each step from ``start`` to ``end``. Rates are per second, latencies in milliseconds."""

    bus: str
    group: str
    start: datetime
    end: datetime
    handled: Values
    failed: Values
    median: Values
    slowest: Values
    waiting: Values
    in_progress: Values


def traffic(hours: int, now: datetime | None = None) -> list[GroupTraffic]:
    """Return the last ``hours`` of each group of which something is known, in two queries.

    The minute that is not over is left out. ``slowest`` is the 99th percentile.
    """
    step = timedelta(minutes=max(math.ceil(hours * 60 / STEPS), 1))
    end = (now or timezone.now()).replace(second=0, microsecond=0)
    count = hours * 60 // int(step.total_seconds() // 60)
    start = end - step * count
    work: dict[tuple[str, str], dict[int, list[HandlerSample]]] = defaultdict(lambda: defaultdict(list))
    for row in HandlerSample.objects.filter(minute__gte=start, minute__lt=end):
        work[row.bus, row.group][(row.minute - start) // step].append(row)
    depths: dict[tuple[str, str], dict[int, list[DepthSample]]] = defaultdict(lambda: defaultdict(list))
    for sample in DepthSample.objects.filter(at__gte=start, at__lt=end):
        depths[sample.bus, sample.group][(sample.at - start) // step].append(sample)
    return [
        _group(bus, group, work[bus, group], depths[bus, group], start, end, step, count)
        for bus, group in sorted({*work, *depths})
    ]


def _group(
    bus: str,
    group: str,
    work: dict[int, list[HandlerSample]],
    depths: dict[int, list[DepthSample]],
    start: datetime,
    end: datetime,
    step: timedelta,
    count: int,
) -> GroupTraffic:
    seconds = step.total_seconds()
    steps = [work.get(index, []) for index in range(count)]
    counts = [latency.total(row.latencies for row in rows) for rows in steps]
    depth = [depths.get(index, []) for index in range(count)]
    return GroupTraffic(
        bus,
        group,
        start,
        end,
        handled=[sum(row.handled for row in rows) / seconds for rows in steps],
        failed=[sum(row.retried + row.dead for row in rows) / seconds for rows in steps],
        median=[_milliseconds(each, 0.5) for each in counts],
        slowest=[_milliseconds(each, 0.99) for each in counts],
        waiting=[_most(sample.waiting for sample in samples) for samples in depth],
        in_progress=[_most(sample.in_progress for sample in samples) for samples in depth],
    )


def _milliseconds(counts: list[int], part: float) -> float | None:
    found = latency.quantile(counts, part)
    return None if found is None else found * 1000


def _most(values: Iterable[int | None]) -> float | None:
    """The largest of a step: a peak must not vanish in an average."""
    return max((float(value) for value in values if value is not None), default=None)
