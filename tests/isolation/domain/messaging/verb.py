"""A message is sent, and handled by a Celery worker."""

import subprocess
import sys
import time

from django.conf import settings

from domain.messaging.messages import OrderPaid
from koan_django.messaging.models import MessageEvent

SECONDS = 40


def main() -> None:
    OrderPaid(order_id=7).send()
    folder = settings.DATABASES["default"]["NAME"].parent
    with subprocess.Popen([sys.executable, "-m", "domain.messaging.worker", str(folder)]) as worker:
        try:
            _wait(worker)
        finally:
            worker.kill()


def _wait(worker: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + SECONDS
    while not MessageEvent.objects.filter(kind="handled").exists():
        assert worker.poll() is None, f"the worker ended with {worker.returncode}"
        assert time.monotonic() < end, f"not handled within {SECONDS} s"
        time.sleep(0.1)
