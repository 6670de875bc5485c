"""``koan_outbox_relay``: relays without a worker, several at once, killed and told to end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import defaultdict
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core.models import HealthFact
from koan_django.messaging import send_many, tasks
from koan_django.messaging.models import MessageEvent, OutboxLane, OutboxMessage, OutboxRelay
from koan_django.testing import override_koan
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.test_relay import bound
from tests.messaging.wire import Wire
from tests.services.fixtures import StartProcess
from tests.services.process import Process
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

ROOT = Path(__file__).parents[2]
PROGRAM = """
import django, sys
django.setup()
from django.core.management import call_command
from koan_django.messaging.outgoing import relay
from koan_django.testing import override_koan

relay.BATCH = 20
bus = {"URL": sys.argv[1], "PREFIX": sys.argv[2], "POLL_INTERVAL": 0.01, "LEASE": 2, "CONFIRM_TIMEOUT": 2}
override_koan(MESSAGING={"BUSES": {"main": bus}}).enable()
call_command("koan_outbox_relay", *sys.argv[3:])
"""


def relaying(process: StartProcess, url: str, prefix: str, *words: str) -> Process:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.messaging.child_settings",
        "KOAN_CHILD_DATABASE": str(connection.settings_dict["NAME"]),
    }
    return process("relay", [sys.executable, "-c", PROGRAM, url, prefix, *words], env=env, cwd=ROOT)


def is_empty() -> bool:
    return not OutboxMessage.objects.exists()


def firsts_by_key(wire: Wire, queue: str) -> dict[str, list[int]]:
    """What arrived of each key, without what came again."""
    found: dict[str, list[int]] = defaultdict(list)
    for each in wire.take(queue):
        body = json.loads(each.body)
        if body["count"] not in found[body["sku"]]:
            found[body["sku"]].append(body["count"])
    return found


def test_the_order_of_each_key_holds_while_relays_are_killed(
    use_bus: UseBus, vhost: Vhost, wire: Wire, process: StartProcess
) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    keys = [f"sku-{number}" for number in range(50)]
    relays = [relaying(process, vhost.url, bus.names.prefix) for _ in range(2)]
    for kill in range(3):
        with listening(StockMoved, group="stock"), transaction.atomic():
            for count in range(kill * 3, kill * 3 + 3):
                send_many([StockMoved(key, count) for key in keys], group="stock")
        wait_until(lambda: OutboxMessage.objects.count() <= 110, 60, "some of them to be published")
        relays[kill % 2].send(signal.SIGKILL)
        relays[kill % 2] = relaying(process, vhost.url, bus.names.prefix)
    wait_until(is_empty, 90, "the rest to be published")
    assert firsts_by_key(wire, queue) == {key: list(range(9)) for key in keys}


def test_sigterm_settles_what_is_in_flight_and_gives_the_lanes_back(
    use_bus: UseBus, vhost: Vhost, wire: Wire, process: StartProcess
) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    with listening(StockMoved, group="stock"), transaction.atomic():
        for count in range(300):
            StockMoved("one", count).send_to("stock")
    child = relaying(process, vhost.url, bus.names.prefix)
    wait_until(lambda: OutboxMessage.objects.count() < 250, 60, "some to be published")
    wait_until(HealthFact.objects.filter(name="messaging.relay.main").exists, 30, "the relay to report its health")
    child.send(signal.SIGTERM)
    assert child.wait(30) == 0, child.tail()
    left = OutboxMessage.objects.count()
    arrived = [json.loads(each.body)["count"] for each in wire.take(queue)]
    assert arrived == list(range(300 - left))  # nothing of it will come twice
    assert not OutboxLane.objects.filter(lease_until__isnull=False).exists()
    assert not OutboxRelay.objects.exists()
    assert not HealthFact.objects.exists()


def once(*words: str) -> tuple[int, str]:
    code, printed, _said = saying(*words)
    return code, printed


def saying(*words: str) -> tuple[int, str, str]:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command("koan_outbox_relay", "--once", *words, stdout=out, stderr=err)
    except SystemExit as error:
        code = int(error.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_once_empties_the_outbox_and_ends(use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    with listening(StockMoved, group="stock"), transaction.atomic():
        send_many([StockMoved("one", count) for count in range(5)], group="stock")
    assert once() == (0, "5 messages published, 0 left, 0 parked\n")
    assert firsts_by_key(wire, queue) == {"one": [0, 1, 2, 3, 4]}
    assert once("--bus", "main") == (0, "0 messages published, 0 left, 0 parked\n")


def test_once_says_why_a_message_is_left(use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        OrderPlaced(1).send_to("billing")
    code, printed, said = saying("--timeout", "10")
    assert (code, printed) == (1, "0 messages published, 1 left, 0 parked\n")
    assert "billing" in said


def test_a_timeout_without_once_is_refused() -> None:
    with pytest.raises(CommandError, match="--timeout is for --once") as refused:
        call_command("koan_outbox_relay", "--timeout", "3")
    assert refused.value.returncode == 2


def test_once_ends_with_an_error_while_the_broker_is_away(use_bus: UseBus, proxy: Proxy, through: str) -> None:
    use_bus(through)
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        OrderPlaced(1).send_to("billing")
    proxy.shut()
    assert once("--timeout", "3") == (1, "0 messages published, 1 left, 0 parked\n")
    assert OutboxMessage.objects.get().tries == 0


def test_parked_messages_are_forgotten_in_batches_when_they_are_old_and_never_by_default(
    use_bus: UseBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_bus("amqp://nobody@127.0.0.1:1/")
    monkeypatch.setattr(tasks, "PARKED_BATCH", 2)
    with listening(OrderPlaced, group="billing"), transaction.atomic():
        send_many([OrderPlaced(number) for number in range(7)], group="billing")
    for number, row in enumerate(OutboxMessage.objects.order_by("id")):
        age = timedelta(hours=3 if number < 5 else 1)
        parked = {} if number == 0 else {"state": "parked"}
        OutboxMessage.objects.filter(pk=row.pk).update(available_at=timezone.now() - age, **parked)
    tasks.forget_parked()
    assert OutboxMessage.objects.count() == 7
    with override_koan(MESSAGING={"PARKED_RETENTION": "2h"}), CaptureQueriesContext(connection) as queries:
        tasks.forget_parked()
    assert len([each for each in queries if each["sql"].startswith("DELETE")]) == 2
    numbers = [json.loads(bytes(row.body))["number"] for row in OutboxMessage.objects.order_by("id")]
    assert numbers == [0, 5, 6]  # one that waits is never old
    gone = MessageEvent.objects.filter(kind="cancelled")
    assert gone.count() == 4
    assert "PARKED_RETENTION" in gone[0].detail


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bus", "mian"], "there is no bus 'mian'"),
        (["--bus", "local"], "'local' is on no broker"),
        ([], "no bus is on"),
    ],
    ids=["unknown", "database", "none"],
)
def test_it_says_when_there_is_nothing_to_relay_to(words: list[str], message: str) -> None:
    buses: Any = {"main": {"URL": "database://"}, "local": {"URL": "memory://"}}
    with override_koan(MESSAGING={"BUSES": buses}), pytest.raises(CommandError, match=message) as caught:
        call_command("koan_outbox_relay", *words)
    assert caught.value.returncode == 2
