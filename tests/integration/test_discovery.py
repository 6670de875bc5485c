"""A worker whose inbox is a service that it finds by its name, and another one when that is killed."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

from redis import from_url

from koan_django.inbox.models import InboxEntry
from koan_django.messaging import send_many
from koan_django.messaging.buses import registry
from tests.deploy.test_inbox_service import TOKEN, Service, started
from tests.integration.conftest import Live
from tests.integration.project.messages import Work
from tests.messaging.wire import Wire, wired
from tests.services.fixtures import StartProcess
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import free_port, wait_until

KEY = "discovery-key-of-the-test-0123456789"


def test_handlers_use_the_service_that_they_find_and_another_one_when_it_is_killed(
    live: Live, vhost: Vhost, redis: Redis, process: StartProcess, tmp_path: Path
) -> None:
    options = {"URL": "discover:inbox", "TOKEN": TOKEN}
    live.use(vhost.url, inbox={"STORE": "http", "OPTIONS": options, "DISCOVERY": {"KEYS": [KEY]}})
    prefix = registry.get("main").names.prefix

    def serving(priority: int) -> Service:
        port = free_port()
        more = {"INBOX_BUS_URL": vhost.url, "INBOX_BUS_PREFIX": prefix, "INBOX_DISCOVERY_KEY": KEY}
        more |= {"INBOX_URL": f"http://127.0.0.1:{port}", "INBOX_PREFIX": f"{prefix}-inbox", "INBOX_HOSTS": "inbox"}
        return started(redis.url, process, tmp_path, port, INBOX_PRIORITY=str(priority), **more)

    best, other = serving(9), serving(1)
    live.worker()
    with wired(vhost.url) as wire:
        copies = copied(wire, prefix)
        send_many([Work(number) for number in range(30)])
        live.once(30)
        assert (begun(best) > 0, begun(other)) == (True, 0)
        best.process.send(signal.SIGKILL)
        send_many([Work(number) for number in range(30, 60)])
        live.once(60)
        assert begun(other) > 0
        for copy in wire.take(copies):  # as after a kill before the acknowledgement
            wire.publish(f"{prefix}.work", copy.body.encode(), **copy.properties)
        wait_until(lambda: duplicates(redis, f"{prefix}-inbox") == 60, 60, "all of them to be known")
    live.once(60)
    assert other.process.stop(signal.SIGTERM) == 0
    assert KEY not in best.process.output + other.process.output
    assert not InboxEntry.objects.exists()


def copied(wire: Wire, prefix: str) -> str:
    """A queue that gets a copy of whatever is sent."""
    queue = wire.queue("copies")
    wire.channel.queue_bind(queue, prefix, "live.#")
    return queue


def duplicates(redis: Redis, prefix: str) -> int:
    """How many the services have recognised, by the memory that they share."""
    with closing(from_url(redis.url)) as client:
        return sum(int(count) for count in client.hgetall(f"{{{prefix}:inbox}}:duplicates").values())


def begun(service: Service) -> float:
    """How often it was asked whether work may begin."""
    return sum(float(line.rpartition(" ")[2]) for line in served(service) if 'operation="try-begin"' in line)


def served(service: Service) -> list[str]:
    return [line for line in service.ask("/metrics")[1].splitlines() if line.startswith("koan_inbox_serve_seconds_c")]
