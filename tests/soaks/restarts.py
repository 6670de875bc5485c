"""RabbitMQ stopped and started ten times in a row under a Celery worker, whose own broker it is as well.

Messages are sent before and after each stop. Each time the worker must say in health that it does not consume, and
later that it does; in the end every message has had its effect once.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from tests.services.rabbitmq import RabbitMQ
from tests.services.waiting import wait_until

from .crew import Crew, worker
from .messaging import counted, missing
from .stage import note, servers, set_up

ROUNDS = 10
#: Sent before, and again after, each stop.
COUNT = 100
#: The worker reports every ten seconds; Celery's own back-off adds to it.
PATIENCE_SECONDS = 90


def soak(seconds: float, seed: int) -> tuple[bool, str]:
    """Restart it ten times, and on until ``seconds`` are over; nothing is left to chance, whatever the seed."""
    folder = Path(tempfile.mkdtemp(prefix="koan-soak-"))
    took: list[float] = []
    with servers() as (vhost, *_):
        set_up(vhost.url, vhost.url)
        crew = Crew(folder, worker(1, children=1))
        began, say = time.monotonic(), note(time.monotonic())
        try:
            crew.complete()
            crew["worker"][0].expect("Consuming the bus rabbitmq", timeout=120)
            while len(took) < ROUNDS or time.monotonic() - began < seconds:
                took.append(_restart(vhost.broker))
                say(f"restart {len(took)}: consumed {took[-1]:.1f} s after the broker was up")
                crew.complete()
        except AssertionError as error:
            return False, f"{len(took)} restarts, then: {error}; {counted()}; logs in {folder}"
        finally:
            crew.end()
        balance = counted()
    words = f"{len(took)} restarts, consumed again within {max(took):.1f} s of each; {balance}"
    if balance.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return True, words
    return False, f"{words}; logs in {folder}"


def _restart(rabbitmq: RabbitMQ) -> float:
    """Stop and start the broker among messages; return after how many seconds all of them were handled."""
    _send()
    rabbitmq.control("stop_app")
    try:
        wait_until(lambda: _says("unhealthy"), PATIENCE_SECONDS, "health to say so", every=0.3)
        _send()
    finally:
        rabbitmq.control("start_app")
    began = time.monotonic()
    wait_until(lambda: not missing(), PATIENCE_SECONDS, "every message to be handled", every=0.3)
    took = time.monotonic() - began
    wait_until(lambda: _says("healthy"), PATIENCE_SECONDS, "health to recover", every=0.3)
    return took


def _send() -> None:
    from koan_django.messaging import send_many
    from tests.soaks.project.messages import Work
    from tests.soaks.project.models import Sent

    rows = Sent.objects.bulk_create(Sent(bus="rabbitmq") for _ in range(COUNT))
    send_many([Work(number=row.pk) for row in rows], bus="rabbitmq")


def _says(status: str) -> bool:
    from koan_django.core import health

    found = [each.status for each in health.aggregate().findings if each.name.startswith("messaging.consumer.rabbitmq")]
    return bool(found) and set(found) == {status}
