"""A worker that takes messages, says so, and never finishes one: its test kills it. It is given its bus as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import django

django.setup()

from koan_django.messaging.buses.base import Batch  # noqa: E402
from koan_django.messaging.handling.verdicts import Verdict  # noqa: E402
from koan_django.messaging.worker.runner import BusRunner  # noqa: E402
from koan_django.testing import override_koan  # noqa: E402
from tests.messaging.shop import OrderPlaced, listening  # noqa: E402


class Holding:
    """Takes batches, and that is all."""

    size = 2

    def submit(self, batch: Batch, done: Callable[[Batch, list[Verdict] | None], None]) -> bool:
        print(f"holding {len(batch.deliveries)}", flush=True)
        return True


with override_koan(MESSAGING={"BUSES": {"main": json.loads(sys.argv[1])}}), listening(OrderPlaced, group="billing"):
    BusRunner(Holding()).start()
    time.sleep(120)
