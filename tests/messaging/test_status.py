"""What the page of buses, ``koan_status`` and the overview say; a broker that is silent holds up none of them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone

from koan_django.messaging import send_many
from koan_django.messaging.control import pausing
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import DeadLetter, OutboxMessage, Partition
from koan_django.messaging.statistics import asking
from koan_django.messaging.statistics.status import status
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.wire import Wire
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

PAGE = "admin:koan_messaging_configuredbus_changelist"


@pytest.fixture
def boss(client: Any) -> Any:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a broker that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://guest:hunter2@127.0.0.1:{server.getsockname()[1]}//"


def told(*words: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("koan_status", *words, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def test_a_database_that_was_not_migrated_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> None:
        raise OperationalError("no such table: koan_core_election")

    monkeypatch.setattr("koan_django.messaging.management.commands.koan_status.status", ask)
    with pytest.raises(CommandError, match=r"no such table: koan_core_election\n\[database.schema\] .*migrate") as told:
        call_command("koan_status")
    assert told.value.returncode == 2


def test_a_broker_tells_what_is_ready_and_who_consumes(
    use_bus: UseBus, vhost: Vhost, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FRESH_SECONDS", 0.0)
    bus = use_bus(vhost.url)
    with listening(OrderPlaced, group="billing"):
        assert bus.depths()[0].note == f"the queue {bus.names.group('billing')} is missing"
        with running():
            wait_until(lambda: bus.depths()[0].consumers == 1, 20, "the worker to be counted")
        send_many([OrderPlaced(number) for number in range(3)])
        wait_until(lambda: (bus.depths()[0].waiting, bus.depths()[0].consumers) == (3, 0), 20, "three messages")
        text, code = told()
        assert "billing  3 waiting, 0 consumers" in text
        assert "! main/billing: 3 wait and nobody consumes them" in text
        assert code == 1


def test_a_silent_broker_is_unknown_with_the_reason_and_the_page_comes(
    use_bus: UseBus, silent: str, boss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.5)
    use_bus(silent)
    with listening(OrderPlaced, group="billing", name="billing.open"):
        Tally("main").flush()
        began = time.monotonic()
        shown = boss.get(reverse(PAGE)).content.decode()
        assert time.monotonic() - began < 4  # the connection itself would be given up after five seconds
    for text in ("unknown", "it did not answer within 0.5 s", "billing.open", "transactional no", "closed"):
        assert text in shown
    assert "hunter2" not in shown
    text, code = told()
    assert "unknown: it did not answer" in text
    assert code == 1
    assert "did not answer" in boss.get(reverse("admin:koan_core_overview_changelist")).content.decode()


def test_the_page_shows_groups_with_their_handlers(use_bus: UseBus, boss: Any) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing", name="billing.open"):
        Tally("main").flush()
        OrderPlaced(1).send()
        pausing.pause("billing.open", "wrong VAT")
        shown = boss.get(reverse(PAGE)).content.decode()
    for text in ("database://", "1 waiting, 0 in progress", ">paused<", "billing.open", "wrong VAT"):
        assert text in shown


def test_the_page_asks_for_its_permission(use_bus: UseBus, client: Any) -> None:
    use_bus("database://")
    user = User.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(PAGE)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_configuredbus"))
    assert client.get(reverse(PAGE)).status_code == 200


def test_the_command_says_nothing_is_wrong_or_what_is(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing", name="billing.open"):
        Tally("main").flush()
        assert told()[1] == 0
        pausing.pause("billing.open", "wrong VAT")
        OrderPlaced(1).send()
        text, code = told("--format", "json")
    found = json.loads(text)
    assert code == 1
    assert found["buses"][0]["groups"] == [
        {"group": "billing", "waiting": 1, "in_progress": 0, "consumers": None, "apart": {}}
    ]
    assert (found["handlers"][0]["state"], found["dead_letters"]) == ("paused", 0)
    assert any("billing.open is paused" in trouble for trouble in found["troubles"])


def test_the_outbox_is_counted_with_its_lag(use_bus: UseBus, vhost: Vhost) -> None:
    bus = use_bus(vhost.url)
    envelope = Envelope("m1", "order.placed", 1, b"{}", {}, "order.placed.p")
    old = timezone.now() - timedelta(minutes=5)
    OutboxMessage.holding(bus.alias, envelope, available_at=old).save()
    OutboxMessage.holding(bus.alias, envelope, state="parked").save()
    [found] = status().buses
    assert (found.pending, found.parked) == (1, 1)
    assert timedelta(minutes=4) < found.lag < timedelta(minutes=10)
    assert any("waits for" in trouble for trouble in status().troubles)


def test_what_a_move_to_a_broker_left_in_the_database_is_told_with_what_to_do(
    use_bus: UseBus, silent: str, boss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.2)
    with listening(OrderPlaced, group="billing"):
        use_bus("database://")
        send_many([OrderPlaced(1), OrderPlaced(2)])
        assert status().leftovers == ()
        use_bus(silent)
        text, code = told()
        assert code == 1
        assert (
            "! main/billing: 2 queued deliveries wait in the database, and nobody comes: the bus is on amqp://" in text
        )
        assert "Run a worker with its URL of before, database://" in text
        assert "hunter2" not in text
        [left] = json.loads(told("--format", "json")[0])["leftovers"]
        assert (left["bus"], left["group"], left["kind"], left["count"]) == ("main", "billing", "delivery", 2)
        assert "2 queued deliveries wait" in boss.get(reverse(PAGE)).content.decode()


def test_what_a_move_from_a_broker_left_in_the_outbox_is_told(use_bus: UseBus) -> None:
    use_bus("database://")
    OutboxMessage.holding("main", Envelope("m1", "order.placed", 1, b"{}", {}, "order.placed.p")).save()
    OutboxMessage.holding("gone", Envelope("m2", "order.placed", 1, b"{}", {}, "order.placed.p")).save()
    text, _ = told()
    assert "! main: 1 outbox message waits in the database, and nobody comes: the bus is on database:// now" in text
    assert "! gone: 1 outbox message waits in the database, and nobody comes: no bus has that name" in text


def test_what_waits_for_a_group_that_no_code_has_is_told(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        OrderPlaced(1).send()
        assert status().leftovers == ()
    [left] = status().leftovers
    assert str(left).startswith("main/billing: 1 queued delivery waits in the database")
    assert "no code here has a handler for that group" in left.why


def test_an_open_breaker_and_a_stopped_partition_are_told(
    use_bus: UseBus, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.2)
    bus = use_bus(silent)
    bus.breaker.trip("connection refused")
    stopped = {"state": "stopped", "alias": "order.placed", "message_id": "m7", "error": "no such shelf"}
    Partition.objects.create(bus="main", group="billing", number=3, **stopped)
    text, code = told()
    assert code == 1
    assert "! the breaker messaging.main is open: connection refused" in text
    assert "! main/billing.p3 has stopped at order.placed m7: no such shelf. `koan_partitions retry billing 3`" in text
    found = json.loads(told("--format", "json")[0])
    assert found["buses"][0]["open_breakers"][0]["name"] == "messaging.main"
    assert found["stopped_partitions"][0]["message_id"] == "m7"


def test_what_is_held_up_is_told_with_the_way_out_and_in_the_right_number(use_bus: UseBus) -> None:
    use_bus("database://")
    with listening(OrderPlaced, group="billing", name="billing.open"):
        Tally("main").flush()
        pausing.pause("billing.open", "wrong VAT")
        envelope = Envelope("m1", "order.placed", 1, b"{}", {}, "order.placed.p")
        OutboxMessage.holding("main", envelope, state="parked").save()
        DeadLetter.holding("main", envelope, group="billing", reason="exhausted").save()
        text, _ = told()
    assert "wrong VAT. `koan_handlers resume` lets it work again" in text
    assert "! 1 message is parked in the outbox of main. " in text
    assert "\n1 handler, 1 dead letter\n" in text
    assert "! 1 dead letter. `koan_deadletters causes` says why" in text
