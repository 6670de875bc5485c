"""Live workers of one project, two at once: a pause in the admin and a breaker hold in all of them."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from koan_django.messaging import send_many
from koan_django.messaging.models import DeadLetter, RegisteredHandler
from tests.integration.conftest import Live
from tests.integration.project.messages import Fragile, Work
from tests.services.process import Process
from tests.services.rabbitmq import Vhost
from tests.services.redis import Redis
from tests.services.waiting import wait_until

LIST = "admin:koan_messaging_registeredhandler_changelist"
#: What the pause of a handler takes at most until no worker hands over anything more.
PROMISED_SECONDS = 2.0
ROUNDS = 3
#: Each pool and each bus once, with and without Celery's event loop; the others are for long runs.
ALWAYS = {("prefork", "amqp"), ("threads", "database"), ("solo", "redis")}
MATRIX = [
    pytest.param(pool, bus, marks=[] if (pool, bus) in ALWAYS else pytest.mark.long, id=f"{pool}-{bus}")
    for pool, bus in product(("prefork", "threads", "solo"), ("amqp", "database", "redis"))
]


class Admin:
    """Somebody who pauses and resumes a handler in the admin."""

    def __init__(self, client: Any) -> None:
        client.force_login(User.objects.create_superuser("boss"))
        self._client = client

    def act(self, action: str, name: str) -> None:
        row = RegisteredHandler.objects.get(name=name)
        data = {"action": action, "_selected_action": row.pk, "reason": "wrong VAT"}
        assert "1 done" in self._client.post(reverse(LIST), data, follow=True).content.decode()


def took(workers: list[Process], text: str, times: int) -> float:
    """Wait until each worker has said ``text`` so often; return how many seconds that took."""
    began = time.monotonic()
    for worker in workers:
        wait_until(lambda: worker.output.count(text) >= times, 30, f"{worker!r} to say {text!r}")  # noqa: B023
    return time.monotonic() - began


def rest(live: Live) -> int:
    """Return how many calls there are once no more come: what a child was at is finished."""
    known = -1
    while known != (known := len(live.calls())):
        time.sleep(0.3)
    return known


def address(bus: str, request: pytest.FixtureRequest) -> str:
    if bus == "amqp":
        vhost: Vhost = request.getfixturevalue("vhost")
        return vhost.url
    if bus == "redis":
        server: Redis = request.getfixturevalue("redis")
        return server.url
    return "database://"


@pytest.mark.services("rabbitmq", "redis")
@pytest.mark.parametrize(("pool", "bus"), MATRIX)
def test_a_pause_and_a_breaker_hold_in_both_workers_and_nothing_is_lost(
    live: Live, request: pytest.FixtureRequest, client: Any, pool: str, bus: str
) -> None:
    where = address(bus, request)
    live.use(where, where if bus == "amqp" else "filesystem://")
    workers = live.workers(2, pool=pool)
    admin, stops, goes, sent = Admin(client), list[float](), list[float](), 0
    wait_until(lambda: RegisteredHandler.objects.filter(name="live.work").exists(), 30, "the handler to be declared")
    for times in range(1, ROUNDS + 1):
        send_many([Work(number, seconds=0.02) for number in range(sent, sent + 40)])
        sent += 40
        wait_until(lambda: len(live.effects()) > sent - 40, 30, "work to be under way")  # noqa: B023
        admin.act("pause", "live.work")
        stops.append(took(workers, "The handler live.work gets nothing more", times))
        before = rest(live)
        send_many([Work(number) for number in range(sent, sent + 5)])
        sent += 5
        time.sleep(0.3)
        assert len(live.calls()) == before
        admin.act("resume", "live.work")
        goes.append(took(workers, "The handler live.work gets messages again", times))
        live.once(sent)
        if max(stops[-1], goes[-1]) <= PROMISED_SECONDS:
            break  # else once more: the machine may be busy with something else
    assert max(stops[-1], goes[-1]) <= PROMISED_SECONDS, (stops, goes)

    (live.folder / "broken").touch()
    send_many([Fragile(number) for number in range(sent, sent + 20)])
    took(workers, "The handler live.fragile gets nothing more", 1)
    failed = len(live.calls())
    time.sleep(1.5)
    assert len(live.calls()) - failed <= 4  # single messages of all workers try, a second apart
    (live.folder / "broken").unlink()
    live.once(sent + 20)
    assert not DeadLetter.objects.exists()
