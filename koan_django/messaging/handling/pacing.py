"""How many messages a batch holds: few where handling is slow, so that no child works while others are idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .limits import NO_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from koan_django.messaging.envelope import Delivery

    from .limits import Limits

#: A batch shares one child; a longer one would leave the others idle.
BATCH_SECONDS = 0.02
#: A batch goes through a pipe in one piece, and is in memory on both sides of it.
BATCH_BYTES = 1_000_000


class Pace:
    """What a message of each group takes. ``wanted`` says how many a batch handler of the group asks for."""

    def __init__(self, wanted: Mapping[str, int], most: int) -> None:
        self._wanted = wanted
        self._most = most
        self._seconds: dict[str, float] = {}

    def note(self, group: str, seconds: float) -> None:
        """A message of ``group`` took ``seconds``."""
        self._seconds[group] = 0.7 * self._seconds.get(group, seconds) + 0.3 * seconds

    def limit(self, group: str) -> int:
        """As many messages as take :data:`BATCH_SECONDS`, and no fewer than a batch handler wants.

        One by one until the first was timed.
        """
        seconds = self._seconds.get(group, BATCH_SECONDS)
        return max(self._wanted[group], min(self._most, int(BATCH_SECONDS / max(seconds, 1e-6))))


def parts(
    deliveries: Sequence[Delivery], limits_of: Callable[[str], Limits] = lambda _alias: NO_LIMITS
) -> list[tuple[Limits, tuple[Delivery, ...]]]:
    """Split ``deliveries`` where a batch would exceed :data:`BATCH_BYTES`; a larger message is alone in its own.

    Those of a batch have the same time limits, which are looked up by alias.
    """
    found: list[tuple[Limits, list[Delivery]]] = []
    room = 0
    for delivery in deliveries:
        size = len(delivery.envelope.body)
        limits = limits_of(delivery.envelope.alias)
        if not found or size > room or limits != found[-1][0]:
            found.append((limits, []))
            room = BATCH_BYTES
        found[-1][1].append(delivery)
        room -= size
    return [(limits, tuple(part)) for limits, part in found]
