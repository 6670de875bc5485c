"""Tasks in a transaction: what becomes a row, what goes straight, and what reaches Celery's broker."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, group
from django.db import connection, transaction

from koan_django.celery import OutboxTask
from koan_django.core.context import correlation, tenant
from koan_django.messaging import MessagingError
from koan_django.messaging.buses import registry
from koan_django.messaging.exceptions import OutboxError, OversizeMessageError
from koan_django.messaging.models import MessageEvent, OutboxMessage
from koan_django.messaging.outgoing import parcels
from koan_django.messaging.outgoing.relay import Relay
from koan_django.testing import override_koan
from tests.celery.conftest import BUSES, taken
from tests.messaging.shop import OrderPlaced, listening
from tests.messaging.wire import Wire
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Vhost
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.services("rabbitmq")]


class RollbackError(Exception):
    """Ends a transaction."""


def declare(app: Celery, **options: Any) -> Any:
    @app.task(base=OutboxTask, name="shop.pack", shared=False, **options)
    def pack(*args: Any, **kwargs: Any) -> None: ...

    return pack


@pytest.fixture
def pack(app: Celery) -> Any:
    return declare(app)


def relay() -> None:
    """Publish what is due, as the relay of a worker does."""
    made = Relay(registry.get("tasks"))
    made.start()
    try:
        wait_until(lambda: not OutboxMessage.objects.filter(state="pending", tries=0).exists(), what="the relay")
    finally:
        made.stop(20)


def parcel() -> parcels.Parcel:
    return parcels.unwrap(OutboxMessage.objects.get().envelope())


def test_a_task_in_a_transaction_is_a_row_of_it_and_reaches_the_broker_with_the_id_that_the_caller_has(
    pack: Any, wire: Wire
) -> None:
    with transaction.atomic():
        result = pack.delay(1, box="large")
        assert wire.depth("celery") < 1
    row = OutboxMessage.objects.get()
    assert (row.bus, row.alias, row.message_id) == ("tasks", "shop.pack", result.id)
    assert wire.depth("celery") < 1
    relay()
    assert not OutboxMessage.objects.exists()
    [message] = wire.take("celery")
    assert json.loads(message.body)[:2] == [[1], {"box": "large"}]
    assert message.headers["task"] == "shop.pack"
    assert message.headers["id"] == message.properties["correlation_id"] == result.id
    assert (message.properties["content_type"], message.properties["delivery_mode"]) == ("application/json", 2)
    told = list(MessageEvent.objects.order_by("id").values_list("kind", "message_id", "alias"))
    assert told == [("sent", result.id, "shop.pack"), ("published", result.id, "shop.pack")]


def test_what_the_relay_publishes_is_what_celery_would_have_published(pack: Any, wire: Wire) -> None:
    """Byte for byte, but for the id and what says from where it came."""
    options: dict[str, Any] = {"args": ["ä", 1.5, None], "kwargs": {"n": 2**60}, "priority": 3, "task_id": "same"}
    options |= {"eta": datetime(2030, 1, 1, tzinfo=UTC), "expires": datetime(2031, 1, 1, tzinfo=UTC), "shadow": "s"}
    options |= {"link": pack.si(9), "time_limit": 9, "headers": {"own": "header"}, "queue": "parcels"}
    pack.apply_async(**options)
    with transaction.atomic():
        pack.apply_async(**options)
    relay()
    straight, relayed = taken(wire, 2, "parcels")
    assert straight.body == relayed.body
    assert straight.headers == relayed.headers
    straight.properties.pop("expiration"), relayed.properties.pop("expiration")  # seconds from when it was called
    assert straight.properties == relayed.properties


def test_a_rollback_takes_the_tasks_of_its_block_and_of_no_other(pack: Any, wire: Wire) -> None:
    with pytest.raises(RollbackError), transaction.atomic():
        pack.delay(1)
        raise RollbackError
    assert not OutboxMessage.objects.exists()
    with transaction.atomic():
        pack.delay(2)
        with pytest.raises(RollbackError), transaction.atomic():
            pack.delay(3)
            raise RollbackError
        with transaction.atomic():
            pack.delay(4)
    relay()
    assert [json.loads(each.body)[0] for each in wire.take("celery")] == [[2], [4]]


def test_outside_a_transaction_a_task_goes_straight_to_the_broker(pack: Any, wire: Wire) -> None:
    result = pack.delay(1)
    assert not OutboxMessage.objects.exists()
    assert [each.headers["id"] for each in taken(wire, 1)] == [result.id]


def test_a_countdown_counts_from_the_call_and_not_from_the_send(pack: Any) -> None:
    before = datetime.now(UTC)
    with transaction.atomic():
        pack.apply_async(countdown=60, expires=120)
    headers = parcel().headers
    assert timedelta(0) <= datetime.fromisoformat(headers["eta"]) - before - timedelta(seconds=60) < timedelta(30)
    assert datetime.fromisoformat(headers["expires"]) > datetime.fromisoformat(headers["eta"])


def test_a_task_carries_the_tenant_and_the_story_in_which_it_was_called(pack: Any, wire: Wire) -> None:
    with tenant.use("acme"), correlation.use("story-1"), transaction.atomic():
        pack.delay(1)
    row = OutboxMessage.objects.get()
    assert (row.envelope().tenant, row.envelope().correlation_id) == ("acme", "story-1")
    relay()
    [message] = wire.take("celery")
    assert message.headers["koan"] == {"tenant": "acme", "correlation": "story-1"}


def test_every_part_of_a_group_and_the_first_of_a_chain_are_rows(pack: Any, wire: Wire) -> None:
    with transaction.atomic():
        group(pack.s(1), pack.s(2)).apply_async()
        whole = chain(pack.si(3), pack.si(4)).apply_async()
    assert OutboxMessage.objects.count() == 3
    relay()
    sent = {json.loads(each.body)[0][0]: each for each in wire.take("celery")}
    assert set(sent) == {1, 2, 3}
    [follower] = json.loads(sent[3].body)[2]["chain"]
    assert (follower["args"], follower["options"]["task_id"]) == ([4], whole.id)


def test_a_retry_goes_straight_since_it_ends_the_transaction_by_an_exception(pack: Any, wire: Wire) -> None:
    with transaction.atomic():
        pack.apply_async(retries=1, task_id="again")
    assert not OutboxMessage.objects.exists()
    assert [each.headers["id"] for each in taken(wire, 1)] == ["again"]


def test_on_commit_calls_of_celery_become_rows(pack: Any) -> None:
    with transaction.atomic():
        pack.delay_on_commit(1)
        pack.apply_async_on_commit((2,))
        assert OutboxMessage.objects.count() == 2


def test_calls_of_several_threads_keep_to_their_own_transactions(pack: Any) -> None:
    inside, go = threading.Event(), threading.Event()

    def other() -> None:
        try:
            inside.wait(30)
            pack.delay("straight")
        finally:
            go.set()
            connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    with transaction.atomic():
        inside.set()
        assert go.wait(30)
        pack.delay("kept")
    thread.join()
    assert b'["kept"]' in bytes(OutboxMessage.objects.get().body)


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_anything_but_json_is_refused_and_nothing_is_written(app: Celery, serializer: str) -> None:
    pack = declare(app, serializer=serializer)
    with pytest.raises(OutboxError, match="only JSON is stored"), transaction.atomic():
        pack.delay(1)
    assert not OutboxMessage.objects.exists()


def test_what_no_row_or_broker_can_hold_is_refused_at_the_call(pack: Any) -> None:
    with override_koan(MESSAGING={"BUSES": BUSES | {"tasks": {"URL": "celery://", "MAX_BODY": 1024}}}):
        with transaction.atomic(), pytest.raises(OversizeMessageError, match="raise MAX_BODY"):
            pack.delay("x" * 2000)
        with transaction.atomic(), pytest.raises(MessagingError, match="shorter name, or let Celery choose"):
            pack.apply_async(task_id="x" * 200)
        with transaction.atomic(), pytest.raises(Exception, match="not JSON serializable"):
            pack.delay(object())
        with transaction.atomic(), pytest.raises(OutboxError, match="its priority 'high' is not a whole number"):
            pack.apply_async(priority="high")
    assert not OutboxMessage.objects.exists()


def test_without_a_bus_that_leads_to_celery_a_task_says_what_to_set(pack: Any) -> None:
    nothing = override_koan(MESSAGING={"BUSES": {"tasks": {"URL": "database://"}}})
    with nothing, transaction.atomic(), pytest.raises(OutboxError, match=re.escape('"tasks": {"URL": "celery://"}')):
        pack.delay(1)


def test_an_eager_task_runs_at_once(app: Celery) -> None:
    app.conf.task_always_eager = True
    ran = []

    @app.task(base=OutboxTask, name="shop.eager", shared=False)
    def eager(number: int) -> None:
        ran.append(number)

    with transaction.atomic():
        eager.delay(1)
    assert ran == [1]
    assert not OutboxMessage.objects.exists()


def test_the_event_of_a_sent_task_is_not_told_before_it_is_sent(app: Celery) -> None:
    app.conf.task_send_sent_event = True
    with transaction.atomic():
        declare(app).delay(1)
    assert OutboxMessage.objects.count() == 1


def test_no_connection_to_the_broker_is_made_on_the_thread_of_the_caller(
    celery_app: Callable[..., Celery], free_port: int
) -> None:
    """Nobody listens where the broker is said to be."""
    pack = declare(celery_app(f"amqp://guest:guest@127.0.0.1:{free_port}//"))
    with transaction.atomic():
        pack.delay(1)
        group(pack.s(2), pack.s(3)).apply_async()
    assert OutboxMessage.objects.count() == 3


def test_tasks_wait_while_the_broker_is_away_and_arrive_when_it_is_back(
    celery_app: Callable[..., Celery], vhost: Vhost, wire: Wire
) -> None:
    with Proxy.before(vhost.url) as proxy:
        pack = declare(celery_app(proxy.url(vhost.url)))
        proxy.shut()
        with transaction.atomic():
            ids = [pack.delay(number).id for number in range(20)]
        made = Relay(registry.get("tasks"))
        made.start()
        wait_until(lambda: "Celery's broker cannot be reached" in made.error, what="the relay to say what is wrong")
        assert "guest" not in made.error
        assert OutboxMessage.objects.filter(tries=0).count() == 20
        proxy.open()
        wait_until(lambda: not OutboxMessage.objects.exists(), 30, "the tasks to be published")
        made.stop(20)
    assert [each.headers["id"] for each in wire.take("celery")] == ids


def test_a_task_that_the_broker_does_not_confirm_is_published_again_with_its_id(
    celery_app: Callable[..., Celery], vhost: Vhost, wire: Wire
) -> None:
    with Proxy.before(vhost.url) as proxy:
        pack = declare(celery_app(proxy.url(vhost.url)))
        with transaction.atomic():
            pack.delay(0)
        relay()
        bus = registry.get("tasks")
        proxy.pause("down")
        with override_koan(MESSAGING={"BUSES": BUSES | {"tasks": {"URL": "celery://", "CONFIRM_TIMEOUT": 0.5}}}):
            bus = registry.get("tasks")
            with transaction.atomic():
                result = pack.delay(1)
            envelope = OutboxMessage.objects.get().envelope()
            assert [each.state for each in bus.publish([envelope, envelope])] == ["unsent", "unsent"]  # no handshake
            proxy.resume()
            assert [each.state for each in bus.publish([envelope])] == ["confirmed"]
            proxy.pause("down")
            assert [each.state for each in bus.publish([envelope, envelope])] == ["unknown", "unsent"]
            proxy.resume()
            relay()
    sent = [each.headers["id"] for each in wire.take("celery")][1:]
    assert sent == [result.id] * 3


def test_a_task_whose_exchange_is_not_there_is_tried_again_and_holds_up_no_other(pack: Any, wire: Wire) -> None:
    wire.channel.exchange_declare("lonely", "direct")
    with transaction.atomic():
        pack.apply_async((1,), exchange="nowhere", routing_key="x")
        pack.apply_async((2,), exchange="lonely", routing_key="nobody")
        pack.apply_async((3,))
    relay()
    assert [json.loads(each.body)[0] for each in wire.take("celery")] == [[3]]
    reasons = list(OutboxMessage.objects.order_by("id").values_list("last_error", flat=True))
    assert "no exchange 'nowhere'" in reasons[0]
    assert "no queue receives it: exchange 'lonely', routing key 'nobody'" in reasons[1]


def test_a_row_that_holds_no_task_is_parked(pack: Any) -> None:
    with transaction.atomic():
        pack.delay(1)
    OutboxMessage.objects.update(body=b"{}")
    relay()
    row = OutboxMessage.objects.get()
    assert row.state == "parked"
    assert "the row holds no task" in row.last_error


def test_the_bus_of_tasks_takes_no_message_and_no_handler(pack: Any) -> None:
    with listening(OrderPlaced, group="billing"), pytest.raises(MessagingError, match="carries no messages"):
        OrderPlaced(1).send(bus="tasks")
    registry.get("tasks").probe()


def test_a_call_in_a_transaction_costs_two_statements(pack: Any, django_assert_num_queries: Any) -> None:
    """The row and its event."""
    with transaction.atomic():
        pack.delay(0)
        with django_assert_num_queries(2):
            pack.delay(1)
