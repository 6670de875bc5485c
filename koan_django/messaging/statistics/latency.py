"""How long messages took, as counts in fixed buckets: what many workers counted can be added up."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Upper bounds in seconds. What took longer than the last is counted after it.
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)


def empty() -> list[int]:
    """Return the counts of nothing."""
    return [0] * (len(BOUNDS) + 1)


def bucket(seconds: float) -> int:
    """Return the place of the bucket in which ``seconds`` counts."""
    return bisect_left(BOUNDS, seconds)


def total(counts: Iterable[Sequence[int]]) -> list[int]:
    """Add up counts. What somebody wrote with other buckets is left out."""
    fitting = [each for each in counts if len(each) == len(BOUNDS) + 1]
    return [sum(column) for column in zip(*fitting, strict=True)] if fitting else empty()


def quantile(counts: Sequence[int], part: float) -> float | None:
    """Return the seconds within which ``part`` of the messages (0 to 1) were handled; ``None`` without messages.

    Between the bounds of a bucket messages are taken to be spread evenly, as Prometheus does; what exceeds the last
    bound counts as that bound.
    """
    wanted = part * sum(counts)
    if not sum(counts):
        return None
    place = next(index for index, reached in enumerate(accumulate(counts)) if reached >= wanted and counts[index])
    if place == len(BOUNDS):
        return float(BOUNDS[-1])
    lower = BOUNDS[place - 1] if place else 0.0
    within = (wanted - sum(counts[:place])) / counts[place]
    return lower + (BOUNDS[place] - lower) * max(within, 0.0)
