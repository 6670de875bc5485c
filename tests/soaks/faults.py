"""Faults by a seed: which, when, and how often each was injected."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.services.proxy import Proxy

#: Between two faults, in seconds.
PAUSE = (0.5, 2.5)


@dataclass(frozen=True)
class Fault:
    """What is done, called by what it has done; ``weight`` is how often it is chosen, against the others."""

    name: str
    inject: Callable[[random.Random], None]
    weight: int = 1


def inject(
    faults: list[Fault],
    seed: int,
    seconds: float,
    note: Callable[[str], None],
    pause: tuple[float, float] = PAUSE,
) -> Counter[str]:
    """Inject ``faults`` for so long; return how often each was."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, chance.uniform(*pause)))
        fault = chance.choices(faults, [each.weight for each in faults])[0]
        note(fault.name)
        fault.inject(chance)
        done[fault.name] += 1
    return done


# what may happen on the way to a server


def away(proxy: Proxy, seconds: float) -> None:
    """Cut every connection and refuse new ones for so long."""
    proxy.shut()
    proxy.cut()
    time.sleep(seconds)
    proxy.open()


def stall(proxy: Proxy, seconds: float) -> None:
    """Let nothing through for so long; the connections stay up."""
    proxy.pause()
    time.sleep(seconds)
    proxy.resume()


def slow(proxy: Proxy, seconds: float, delay: float) -> None:
    """Let everything through late for so long."""
    proxy.delay(delay)
    time.sleep(seconds)
    proxy.resume()
