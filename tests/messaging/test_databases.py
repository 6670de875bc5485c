"""Messages of transactions in several databases: each waits in the outbox of its own, and is published from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections, transaction
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from koan_django.core.exceptions import KoanError
from koan_django.core.models import AuditEvent
from koan_django.messaging import events, send_many, tasks
from koan_django.messaging.buses import registry
from koan_django.messaging.checks import check_databases
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.examinations import backlog
from koan_django.messaging.exceptions import OutboxError
from koan_django.messaging.models import MessageEvent, OutboxLane, OutboxMessage
from koan_django.messaging.outgoing import databases, sending
from koan_django.messaging.statistics import status
from koan_django.testing import override_koan
from tests.messaging.conftest import UseBus, running
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.messaging.test_relay import bound
from tests.messaging.wire import Wire
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "orders"]),
    pytest.mark.database,
    pytest.mark.usefixtures("orders"),
]
AWAY = "amqp://nobody@127.0.0.1:1/"


class RollbackError(Exception):
    """Ends a transaction."""


@pytest.fixture
def both(orders: str) -> Iterator[str]:
    """The second database, which has an outbox too. To be asked for first: settings are restored in turn."""
    with override_koan(MESSAGING={"OUTBOX_DATABASES": [orders]}):
        yield orders


def numbers(using: str) -> list[int]:
    """What waits in the outbox of a database."""
    return [json.loads(bytes(row.body))["number"] for row in OutboxMessage.objects.using(using).order_by("id")]


def test_the_doctor_says_what_to_do_about_a_database_without_the_tables(both: str) -> None:
    found = {each.name: each for each in backlog()}
    assert found["outbox.orders.tables"].status == "healthy"
    with connections[both].schema_editor() as editor:
        editor.alter_db_table(OutboxLane, OutboxLane._meta.db_table, "elsewhere")
    try:
        found = {each.name: each for each in backlog()}
    finally:
        with connections[both].schema_editor() as editor:
            editor.alter_db_table(OutboxLane, "elsewhere", OutboxLane._meta.db_table)
    assert found["outbox.orders.tables"].message == f"not there: {OutboxLane._meta.db_table}"
    assert found["outbox.orders.tables"].remedy == "Run `python manage.py migrate --database orders`."


def test_a_message_waits_in_the_database_of_its_transaction_and_goes_with_its_rollback(
    both: str, use_bus: UseBus
) -> None:
    use_bus(AWAY)
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic(using=both):
            OrderPlaced(1).send()
            assert not MessageEvent.objects.exists()  # they are in the other database, and this may roll back
            with pytest.raises(RollbackError), transaction.atomic(using=both):
                OrderPlaced(2).send()
                raise RollbackError
        with pytest.raises(RollbackError), transaction.atomic(using=both):
            OrderPlaced(3).send()
            raise RollbackError
        with transaction.atomic():
            OrderPlaced(4).send()
    assert (numbers("default"), numbers(both)) == ([4], [1])
    assert MessageEvent.objects.filter(kind="sent").count() == 2


SENDS: dict[str, Callable[..., Any]] = {
    "send": lambda **options: OrderPlaced(7).send(**options),
    "send_to": lambda **options: OrderPlaced(7).send_to("billing", **options),
    "send_many": lambda **options: send_many([OrderPlaced(7)], **options),
    "delayed": lambda **options: OrderPlaced(7).send(delay=timedelta(hours=1), **options),
}


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_two_open_transactions_and_none_named_is_an_error_that_says_what_to_name(
    both: str, send: Callable[..., Any], use_bus: UseBus
) -> None:
    use_bus(AWAY)
    with listening(OrderPlaced, group="billing"), transaction.atomic(), transaction.atomic(using=both):
        with pytest.raises(OutboxError) as caught:
            send()
        assert isinstance(caught.value, KoanError)
        assert "transactions are open in 'default' and 'orders', and none is named" in str(caught.value)
        assert "using='default'" in str(caught.value.fix)
        assert (numbers("default"), numbers(both)) == ([], [])
        send(using=both)
        assert (numbers("default"), numbers(both)) == ([], [7])
        send(using="default")
        assert (numbers("default"), numbers(both)) == ([7], [7])


def test_awaited_sends_are_part_of_the_transactions_of_the_calling_thread(both: str, use_bus: UseBus) -> None:
    use_bus(AWAY)

    async def send(*using: str | None) -> None:
        await asyncio.gather(*(OrderPlaced(7).asend(using=each) for each in using))

    with listening(OrderPlaced, group="billing"), transaction.atomic(using=both):
        with transaction.atomic():
            with pytest.raises(OutboxError, match="none is named"):
                _run(send(None))
            _run(send(both, "default", both))
        _run(send(None))
    assert (numbers("default"), numbers(both)) == ([7], [7, 7, 7])


def _run(awaitable: Any) -> None:
    async def run() -> None:
        await awaitable

    async_to_sync(run)()


def test_the_default_database_settles_which_transaction_it_is(both: str, use_bus: UseBus) -> None:
    use_bus(AWAY)
    with override_koan(MESSAGING={"DEFAULT_DATABASE": both, "OUTBOX_DATABASES": [both]}):
        with listening(OrderPlaced, group="billing"), transaction.atomic(), transaction.atomic(using=both):
            OrderPlaced(1).send_to("billing", bus="main")
        assert databases.choose(None) == both  # no transaction is open
        with transaction.atomic():
            assert databases.choose(None) == "default"  # one is


def test_a_router_chooses_where_the_first_outbox_is(both: str) -> None:
    with override_settings(DATABASE_ROUTERS=["tests.messaging.test_databases.ToOrders"]):
        assert databases.every() == (both,)
        with transaction.atomic(using=both):
            assert databases.choose(None) == both
        with transaction.atomic(), pytest.raises(OutboxError, match="open in 'default', which has no outbox"):
            databases.choose(None)


class ToOrders:
    """A router that keeps messaging's tables in the second database."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "orders" if model._meta.app_label == "koan_messaging" else None

    db_for_read = db_for_write


def test_a_transaction_of_a_database_without_an_outbox_is_not_passed_over(orders: str, use_bus: UseBus) -> None:
    use_bus(AWAY)
    with listening(OrderPlaced, group="billing"), transaction.atomic(using=orders):
        with pytest.raises(OutboxError, match="open in 'orders', which has no outbox") as caught:
            OrderPlaced(1).send()
        assert "migrate --database orders" in str(caught.value.fix)
        for name in (orders, "elsewhere"):
            with pytest.raises(OutboxError, match=f"the database '{name}' has no outbox"):
                OrderPlaced(1).send(using=name)
        with transaction.atomic():
            OrderPlaced(2).send(using="default")
    assert numbers("default") == [2]


def test_the_transactions_of_a_test_case_are_not_taken_for_the_users(both: str) -> None:
    cases = [transaction.Atomic(using, savepoint=False, durable=False) for using in ("default", both)]
    for case in cases:
        case._from_testcase = True  # type: ignore[attr-defined]  # as Django's TestCase does
    with cases[0], cases[1]:
        assert databases.choose(None) == "default"
        with transaction.atomic(using=both):
            assert databases.choose(None) == both


def test_each_database_has_a_relay_and_lanes_of_its_own(both: str, use_bus: UseBus, vhost: Vhost, wire: Wire) -> None:
    bus = use_bus(vhost.url)
    queue = bound(bus, wire)
    with listening(StockMoved, group="stock"):
        for using in ("default", both):
            with transaction.atomic(using=using):
                send_many([StockMoved(using, count) for count in range(20)], group="stock")
    told = StringIO()
    call_command("koan_outbox_relay", "--once", stdout=told, stderr=StringIO())
    assert told.getvalue() == "40 messages published, 0 left, 0 parked\n"
    bodies = [json.loads(each.body) for each in wire.take(queue)]
    for using in ("default", both):
        assert [body["count"] for body in bodies if body["sku"] == using] == list(range(20))
        assert OutboxLane.objects.using(using).filter(bus="main").exists()
    assert MessageEvent.objects.filter(kind="published").count() == 40


def test_a_worker_publishes_from_every_database_and_says_so(both: str, use_bus: UseBus, vhost: Vhost) -> None:
    use_bus(vhost.url)
    with listening(OrderPlaced, group="billing") as arrived, running() as runner:
        assert {relay.finding().name for relay in runner.relays} == {
            "messaging.relay.main",
            "messaging.relay.main.orders",
        }
        with transaction.atomic(using=both):
            OrderPlaced(5).send()
        wait_until(lambda: arrived, 30, "the message to be handled")
        wait_until(lambda: not OutboxMessage.objects.using(both).exists(), 30, "its row to be deleted")


def test_a_message_does_not_overtake_one_of_its_key_in_another_database(
    both: str, use_bus: UseBus, proxy: Proxy, through: str
) -> None:
    use_bus(through)
    with listening(StockMoved, group="stock"):
        with transaction.atomic(using=both):
            StockMoved("one", 1).send_to("stock")
        assert (
            StockMoved("one", 2).send_to("stock").state == "accepted"
        )  # no transaction is open, and the broker is there
    assert OutboxMessage.objects.using(both).count() == 2
    assert not OutboxMessage.objects.exists()


def test_what_the_broker_does_not_take_waits_in_the_database_that_was_named(both: str, use_bus: UseBus) -> None:
    use_bus(AWAY, CONFIRM_TIMEOUT=0.5)
    with listening(OrderPlaced, group="billing"):
        OrderPlaced(1).send(using=both)
    assert (numbers("default"), numbers(both)) == ([], [1])


def test_waiting_and_parked_messages_are_counted_taken_back_and_forgotten_everywhere(
    both: str, use_bus: UseBus
) -> None:
    use_bus(AWAY)
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            OrderPlaced(1).send()
        with transaction.atomic(using=both):
            receipts = send_many([OrderPlaced(2), OrderPlaced(3)], delay=timedelta(hours=1))
    assert sending.cancel(receipts[0])
    assert not sending.cancel(receipts[0])
    assert numbers(both) == [3]
    long_ago = timezone.now() - timedelta(hours=3)
    OutboxMessage.objects.using(both).update(state="parked", available_at=long_ago)
    pending, _lag, parked = status._outbox()["main"]
    assert (pending, parked) == (1, 1)
    assert [each.name for each in backlog() if "1 message parked" in each.message] == ["outbox.parked"]
    with override_koan(MESSAGING={"OUTBOX_DATABASES": [both], "PARKED_RETENTION": "2h"}):
        tasks.forget_parked()
    assert not OutboxMessage.objects.using(both).exists()
    assert MessageEvent.objects.filter(kind="cancelled").count() == 2


def test_the_database_bus_says_that_it_is_in_one_database(both: str) -> None:
    with listening(OrderPlaced, group="billing"), transaction.atomic(using=both):
        with pytest.raises(OutboxError, match="no transaction of 'orders' can hold a message of the bus 'main'"):
            OrderPlaced(1).send()
        assert OrderPlaced(1).send(using="default").state == "accepted"


def test_the_memory_bus_waits_for_the_commit_of_that_database(both: str) -> None:
    with override_koan(MESSAGING={"OUTBOX_DATABASES": [both], "BUSES": {"main": {"URL": "memory://"}}}):
        bus = registry.get("main")
        with listening(OrderPlaced, group="billing"):
            with pytest.raises(RollbackError), transaction.atomic(using=both):
                OrderPlaced(1).send()
                raise RollbackError
            assert bus.depths()[0].waiting == 0
            with transaction.atomic(using=both):
                OrderPlaced(2).send()
                assert bus.depths()[0].waiting == 0
            assert bus.depths()[0].waiting == 1
        registry.reset()


def test_events_of_another_database_are_written_once_its_transaction_has_committed(both: str) -> None:
    event = events.event("sent", "main", Envelope("m1", "order.placed", 1, b"{}", {}, "order.placed.p"))
    with transaction.atomic(using=both):
        events.record([event], of=both)
        assert not MessageEvent.objects.exists()
    assert MessageEvent.objects.get().message_id == "m1"


def test_the_admin_shows_publishes_and_discards_what_waits_in_the_other_database(
    both: str, use_bus: UseBus, admin_client: Any
) -> None:
    use_bus(AWAY)
    with listening(OrderPlaced, group="billing"):
        with transaction.atomic():
            OrderPlaced(1).send()
        with transaction.atomic(using=both):
            for number in (2, 3):
                OrderPlaced(number).send()
    OutboxMessage.objects.using(both).update(state="parked", last_error="nobody receives it")
    first, second = OutboxMessage.objects.using(both).order_by("id")
    url = reverse("admin:koan_messaging_outboxmessage_changelist")
    shown = admin_client.get(url).content.decode()
    assert "main (orders)" in shown  # the figures of each outbox
    assert first.message_id not in shown
    assert first.message_id in admin_client.get(f"{url}?database=orders").content.decode()
    page = reverse("admin:koan_messaging_outboxmessage_change", args=[second.pk])
    assert second.message_id in admin_client.get(f"{page}?_changelist_filters=database%3Dorders").content.decode()
    data = {"action": "publish", "_selected_action": first.pk}
    admin_client.post(f"{url}?database=orders", data)
    admin_client.post(f"{url}?database=orders", {"action": "discard", "_selected_action": second.pk, "confirmed": "1"})
    assert list(OutboxMessage.objects.using(both).values_list("pk", "state")) == [(first.pk, "pending")]
    assert numbers("default") == [1]
    assert AuditEvent.objects.filter(action__in=("admin.publish", "admin.discard")).count() == 2


def test_the_admin_asks_for_no_database_where_there_is_one(orders: str, admin_client: Any) -> None:
    url = reverse("admin:koan_messaging_outboxmessage_changelist")
    assert "By database" not in admin_client.get(f"{url}?database=elsewhere").content.decode()


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"OUTBOX_DATABASES": ["orders"]}, []),
        ({"OUTBOX_DATABASES": ["order"]}, ["koan_messaging.E011"]),
        ({"DEFAULT_DATABASE": "orders"}, ["koan_messaging.E011"]),
        ({"DEFAULT_DATABASE": "default"}, []),
    ],
    ids=["there", "misspelt", "default without an outbox", "default"],
)
def test_a_database_that_cannot_have_an_outbox_is_found_by_check(
    orders: str, options: dict[str, Any], ids: list[str]
) -> None:
    with override_koan(MESSAGING=options):
        found = check_databases(None)
    assert [each.id for each in found] == ids
    if "order" in options.get("OUTBOX_DATABASES", ()):
        assert "orders" in found[0].msg  # did you mean
