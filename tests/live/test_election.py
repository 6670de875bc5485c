"""A project that names no bus: its worker finds the broker while it runs, and other processes follow."""

from __future__ import annotations

from typing import Any

import pytest

from koan_django.core import facts
from koan_django.core.models import Election
from tests.services import wait_until
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]

SEND = """
from koan_django.messaging.buses import registry
from tests.live.project.messages import Store
print("to", registry.get("main").place, [Store(number).send().state for number in range({0}, {0} + 10)])
"""


def test_a_worker_and_the_processes_that_send_move_to_the_broker_once_it_is_there(site: Any, vhost: Vhost) -> None:
    with Proxy.before(vhost.url) as proxy:
        proxy.shut()
        url = proxy.url(vhost.url)
        env = {"KOAN_RABBITMQ_URL": f"amqp://127.0.0.1:1/gone, {url}"}
        worker = site.worker("-c", "2", **env)
        assert "to database:// " in site.manage("shell", "-c", SEND.format(0), **env).output
        wait_until(lambda: len(site.deeds("stored")) == 10, 30, "what was sent to the database")
        proxy.open()
        place = url.rpartition("@")[2]
        elected = wait_until(lambda: Election.objects.exclude(selection="database://").first(), 30, "the election")
        assert elected.selection == f"amqp://{place}"
        sent = site.manage("shell", "-c", SEND.format(10), **env).output
        assert f"to amqp://{place} ['published'" in sent
        wait_until(lambda: len(site.deeds("stored")) == 20, 30, "what was sent to the broker")
        assert sorted(int(deed[1]) for deed in site.deeds()) == list(range(20))

        def reasons() -> dict[str, str]:
            [known] = [found for name, found in facts.of_all().items() if name.endswith(":worker")]
            [fact] = [fact for fact in known if fact.subject == "messaging.bus.main"]
            return {each.name: each.reason for each in fact.alternatives} if place in fact.selection else {}

        kept = wait_until(reasons, 20, "the worker's facts")
        assert kept["database://"] == f"amqp://{place} is live"
        assert "Connection refused" in kept["amqp://127.0.0.1:1/gone"]
        assert worker.stop() == 0
    assert "guest:guest" not in worker.output
