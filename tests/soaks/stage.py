"""Where a soak takes place: servers of its own, ways to them that can be broken, and the project of its processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from tests.services.postgres import Postgres
from tests.services.proxy import Proxy
from tests.services.rabbitmq import RabbitMQ, Vhost


class Sums(Protocol):
    """What was counted at the end, with words for it."""

    @property
    def holds(self) -> bool:
        """Whether it is what it should be."""


@contextmanager
def servers() -> Iterator[tuple[Vhost, Proxy, Proxy]]:
    """Start what is needed; yield the virtual host and the proxies before it, one for the bus and one for Celery."""
    with ExitStack() as stack:
        postgres, rabbitmq = Postgres(), RabbitMQ()
        for server in (postgres, rabbitmq):
            server.start()
            stack.callback(server.stop)
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.soaks.project.settings"
        os.environ["KOAN_SOAK_DATABASE"] = stack.enter_context(postgres.database())
        vhost = stack.enter_context(rabbitmq.vhost())
        bus, broker = (stack.enter_context(Proxy.before(vhost.url)) for _ in range(2))
        yield vhost, bus, broker


def set_up(bus: str, broker: str, options: Mapping[str, Any] = MappingProxyType({}), trail: str = "all") -> None:
    """Load the project in this process, with its tables; the processes of the run get the same servers."""
    import django
    from django.core.management import call_command

    stage: dict[str, Any] = {"database": os.environ["KOAN_SOAK_DATABASE"], "bus": bus, "broker": broker}
    stage |= {"options": dict(options), "trail": trail}
    os.environ["KOAN_SOAK"] = json.dumps(stage)
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


def elsewhere(database: str) -> dict[str, str]:
    """Return the environment of a process that goes another way to the database, after :func:`set_up`."""
    return os.environ | {"KOAN_SOAK": json.dumps(json.loads(os.environ["KOAN_SOAK"]) | {"database": database})}


def note(began: float) -> Callable[[str], None]:
    """Return what says on stderr how long after ``began`` something happened."""
    return lambda name: print(f"{time.monotonic() - began:6.1f} s  {name}", file=sys.stderr, flush=True)


def cut_database() -> None:
    """End every connection to the database but this one."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def dead() -> int:
    """Return how many messages were given up."""
    from koan_django.messaging.models import DeadLetter

    return DeadLetter.objects.count()


def suppressed() -> int:
    """Return how many duplicates the inbox kept from having an effect."""
    from koan_django.messaging.models import MessageEvent

    return MessageEvent.objects.filter(kind="duplicate").count()


def under_way(vhost: Vhost) -> int:
    """Return how many messages wait in the database or in queues of the broker."""
    from koan_django.messaging.models import OutboxMessage, QueuedDelivery

    waiting = sum(queue.get("messages", 1) for name, queue in vhost.queues().items() if name.startswith("koan"))
    return waiting + OutboxMessage.objects.count() + QueuedDelivery.objects.count()


def verdict(done: Counter[str], sums: Sums, folder: Path, details: str) -> tuple[bool, str]:
    """Return whether the sums hold, and the words for it; the logs and ``details`` stay for whom they do not."""
    words = f"injected {done.total()}: " + ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    if sums.holds:
        shutil.rmtree(folder, ignore_errors=True)
        return True, f"{words}; {sums}"
    return False, f"{words}; {sums}; logs in {folder}; {details}"
