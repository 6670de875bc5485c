"""Replays a hundred thousand dead letters with one call, and looks at the memory that it takes on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from .stage import servers, set_up

if TYPE_CHECKING:
    from koan_django.messaging.dead.replaying import Progress

COUNT = 100_000
#: What one part after the first tenth may take more than that did: caches that fill, and what the allocator keeps.
ROOM_MIB = 16


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Replay :data:`COUNT` dead letters; both arguments are ignored. Return whether it holds, and in words."""
    with servers() as (_vhost, bus, broker):
        set_up(bus.url(_vhost.url), broker.url(_vhost.url))
        return _replayed()


def _replayed() -> tuple[bool, str]:
    from koan_django.messaging.dead.replaying import Selection, replay_all
    from koan_django.messaging.models import DeadLetter, OutboxMessage

    _fill()
    sizes: list[float] = []

    def note(progress: Progress) -> None:
        if progress.done % (COUNT // 10) == 0:
            sizes.append(_resident_mib())

    began = time.monotonic()
    progress = replay_all(Selection(bus="rabbitmq"), tell=note)
    took = time.monotonic() - began
    waiting, left = OutboxMessage.objects.count(), DeadLetter.objects.dead().count()
    growth = max(sizes[1:]) - sizes[0]
    holds = (progress.done, waiting, left) == (COUNT, COUNT, 0) and growth < ROOM_MIB
    return holds, (
        f"{progress.done} of {COUNT} replayed in {took:.0f} s ({progress.done / took:.0f}/s), {waiting} in the outbox,"
        f" {left} still dead; {sizes[0]:.1f} MiB after a tenth, at most {growth:+.1f} MiB from there:"
        f" {'it holds' if holds else 'it DOES NOT HOLD'}"
    )


def _fill() -> None:
    from koan_django.messaging.models import DeadLetter

    for start in range(0, COUNT, 1000):
        DeadLetter.objects.bulk_create(
            DeadLetter(
                bus="rabbitmq",
                group="ledger",
                message_id=f"{number:032x}",
                alias="soak.work",
                routing_key="soak.work.p",
                headers={"koan-correlation": f"{number:032x}"},
                body=b'{"number": 1, "padding": "' + b"x" * 1000 + b'"}',
                reason="exhausted",
                fingerprint="f",
                correlation_id=f"{number:032x}",
            )
            for number in range(start, start + 1000)
        )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
