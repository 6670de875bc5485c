"""What type checkers say about the test kit; checked by ``test_typing.py``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_type

from koan_django.messaging import Message
from koan_django.testing import (
    Captured,
    Chaos,
    Drained,
    Fault,
    FrozenClock,
    capture_messages,
    chaos,
    drain,
    fault,
    frozen_clock,
)


class Paid(Message):
    number: int


with capture_messages() as captured:
    assert_type(captured, Captured)
assert_type(captured.sent(Paid), Paid)
assert_type(captured.sent(Paid, 2, number=1).number, int)
assert_type(captured.of(Paid), list[Paid])
captured.sent(dict)  # type: ignore[type-var]
captured.sent(Paid, "two")  # type: ignore[arg-type]

assert_type(drain(), Drained)
assert_type(drain("main", retries=False, allow_dead=True).left, int)
drain(allow=True)  # type: ignore[call-arg]

with frozen_clock(datetime(2031, 1, 1, tzinfo=UTC)) as clock:
    assert_type(clock, FrozenClock)
    assert_type(clock.advance(minutes=5), datetime)
frozen_clock("2031-01-01")  # type: ignore[arg-type]

with fault("messaging.handle.committed", error=OSError) as armed:
    assert_type(armed, Fault)
fault("messaging.handle.committed", error="gone")  # type: ignore[arg-type]

with chaos(duplicate=0.5, reorder=True) as unrest:
    assert_type(unrest, Chaos)
