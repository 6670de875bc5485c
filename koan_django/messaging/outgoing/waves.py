"""Which messages may travel to a broker at the same time.

What a broker refuses has to be given to it again, and what was written behind it would be there by then. So of each key
one message travels at a time; what has no key need not wait for anything.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def waves(keys: Iterable[str | None]) -> list[list[int]]:
    """Return the positions of ``keys``, in order, in waves that hold no key twice; everything without one is first."""
    found: list[list[int]] = []
    ahead: Counter[str] = Counter()
    for position, key in enumerate(keys):
        number = 0 if key is None else ahead[key]
        if key is not None:
            ahead[key] += 1
        if number == len(found):
            found.append([])
        found[number].append(position)
    return found
