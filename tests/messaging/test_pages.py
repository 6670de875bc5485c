"""The pages of messaging in a browser: nothing is cut off, and a strict content security policy lets all of it be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from koan_django.inbox.models import InboxEntry
from koan_django.messaging.control import pausing
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.dead import deadletters
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import (
    DeadLetter,
    DepthSample,
    HandlerSample,
    MessageEvent,
    OutboxMessage,
    Partition,
    PartitionWorker,
    QueuedDelivery,
    RegisteredHandler,
    TopologyObject,
)
from koan_django.messaging.statistics import latency
from tests.messaging.conftest import UseBus
from tests.messaging.shop import OrderPlaced, StockMoved, listening
from tests.services.rabbitmq import Vhost

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route
    from pytest_django.live_server_helper import LiveServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services("chromium", "rabbitmq")]

#: As strict as a project can be; the admin itself keeps to it.
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
LISTS = (
    "deadletter",
    "depthsample",
    "handlersample",
    "messageevent",
    "outboxmessage",
    "partition",
    "partitionworker",
    "queueddelivery",
    "registeredhandler",
    "topologyobject",
)
DRAWN = ("configuredbus", "traffic", "topology")
GROUP = "customer-notifications"
HANDLER = "warehouse.handlers.reserve_the_goods"
WORKER = "worker-7f9c4.internal:4711:worker"
ERROR = "the card service answered 503 Service Unavailable: upstream connect error or disconnect/reset before headers"


@pytest.fixture
def busy(use_bus: UseBus, vhost: Vhost) -> Iterator[None]:
    """A bus on RabbitMQ on which nothing is declared yet, and a row of everything, with names as long as real ones."""
    use_bus(vhost.url)
    with (
        listening(OrderPlaced, group=GROUP, name=HANDLER, breaker=True),
        listening(StockMoved, group="warehouse", name="warehouse.handlers.move_the_stock"),
    ):
        Tally("main").flush()
        RegisteredHandler.objects.update(
            handled=1_204_311,
            retried=4_210,
            dead=37,
            duplicates=12,
            total_ms=9e6,
            worst_ms=1834.2,
            last_error=ERROR,
            last_handled_at=timezone.now(),
            last_error_at=timezone.now(),
        )
        pausing.pause(HANDLER, "the carrier answers nothing since noon")
        _rows()
        yield


def _rows() -> None:
    now, headers = timezone.now(), {"koan-tenant": "acme", "koan-correlation-id": "5e1f0c9ab7d84c2f9f0f4d5a6b7c8d9e"}
    envelope = Envelope(
        "0f7be6a0c5d44b5f9b0d7d7a5f3d2c11", "order.placed", 1, b'{"number": 1}', headers, "order.placed.p"
    )
    verdict = Verdict("dead", HANDLER, "exhausted", "shop.errors.CardServiceError", ERROR, "Traceback")
    deadletters.dead_letter(Delivery(envelope, "main", GROUP), verdict).save()
    OutboxMessage.holding("main", envelope, state="parked", last_error=ERROR).save()
    QueuedDelivery.holding("main", envelope, group=GROUP, last_error=ERROR).save()
    Partition.objects.create(
        bus="main",
        group=GROUP,
        number=3,
        state="stopped",
        alias="order.placed",
        message_id=envelope.id,
        handler=HANDLER,
        error=ERROR,
        since=now,
        lease_owner=WORKER,
    )
    PartitionWorker.objects.create(bus="main", group="warehouse", worker=WORKER, until=now)
    MessageEvent.objects.create(
        kind="retried",
        message_id=envelope.id,
        alias="order.placed",
        bus="main",
        group=GROUP,
        handler=HANDLER,
        process=WORKER,
        correlation_id=envelope.correlation_id,
        duration_ms=3.2,
    )
    InboxEntry.objects.create(
        fingerprint="a" * 64,
        tenant="acme",
        bus="main",
        group=GROUP,
        handler=HANDLER,
        alias="order.placed",
        key=envelope.id,
        state="processed",
        correlation_id=envelope.correlation_id,
        processed_at=now,
    )
    TopologyObject.objects.create(
        bus="main",
        broker="rabbit@broker-1.internal",
        vhost="shop",
        kind="binding",
        name=f"koan.{GROUP}",
        source="koan",
        routing_key="order.placed.*",
        destination_type="queue",
        digest="b" * 64,
        created_by=WORKER,
    )
    minute = now.replace(second=0, microsecond=0)
    for ago in range(1, 50):
        at, counts = minute - timedelta(minutes=ago), latency.empty()
        counts[latency.bucket(0.01)] = 100 + ago
        HandlerSample.objects.create(
            minute=at, bus="main", group=GROUP, handler=HANDLER, handled=100 + ago, latencies=counts
        )
        DepthSample.objects.create(at=at, bus="main", group=GROUP, waiting=20 * ago)


@pytest.fixture
def admin(page: Page, live_server: LiveServer, client: Any) -> Page:
    """The browser of a superuser, to whom the server's answers come with a strict policy."""

    def strictly(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": POLICY})

    client.force_login(User.objects.create_superuser("boss"))
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page.route("**/admin/**", strictly)
    return page


def _addresses() -> Iterator[str]:
    for name in (*DRAWN, *LISTS):
        yield reverse(f"admin:koan_messaging_{name}_changelist")
    yield reverse("admin:koan_inbox_inboxentry_changelist")
    for model in (DeadLetter, RegisteredHandler, Partition):
        row = model.objects.first()
        assert row is not None
        yield reverse(f"admin:koan_messaging_{model._meta.model_name}_change", args=[row.pk])
    yield reverse("admin:koan_messaging_deadletter_resend", args=[DeadLetter.objects.get().pk])


#: What is wider than the box that holds it. A table in a box that scrolls counts: its last columns are out of sight.
CUT_OFF = """() => [...document.querySelectorAll('#content, #content .results, #content table, #content .module')]
    .filter(box => box.clientWidth && box.scrollWidth > box.clientWidth + 1)
    .map(box => `${box.tagName}#${box.id}.${box.className} ${box.scrollWidth} > ${box.clientWidth}`)"""
#: Fields and tables that a screen reader could only call "edit" or "table".
NAMELESS = """() => [...document.querySelectorAll('#content :is(input, select, textarea, svg[role=img])')]
    .filter(each => each.type !== 'hidden' && !(each.type === 'submit' && each.value))
    .filter(each => !(each.labels?.length || each.ariaLabel))
    .concat([...document.querySelectorAll('.koan-page :is(section, table, nav)')]
        .filter(each => !each.ariaLabel && !document.getElementById(each.getAttribute('aria-labelledby'))?.textContent))
    .map(each => each.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("width", [pytest.param(1300, marks=pytest.mark.long), 800])
def test_no_page_is_cut_off_or_nameless_or_breaks_a_strict_policy(
    admin: Page, live_server: LiveServer, busy: None, width: int
) -> None:
    """At the width of a laptop with the admin's sidebar, and of a small window."""
    found: dict[str, list[str]] = {}
    admin.set_viewport_size({"width": width, "height": 900})
    for address in _addresses():
        answer = admin.goto(live_server.url + address)
        assert answer is not None
        assert (answer.status, answer.headers["content-security-policy"]) == (200, POLICY)
        found[address] = [*admin.evaluate(CUT_OFF), *admin.evaluate(NAMELESS)]
    assert not any(found.values()), "\n".join(f"{address}: {told}" for address, told in found.items() if told)


def test_the_page_of_traffic_says_what_a_broker_does_not_tell(busy: None, client: Any) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    page = reverse("admin:koan_messaging_traffic_changelist")
    shown = client.get(page).content.decode()
    assert "This bus tells what waits, not what is in progress." in shown
    assert "in progress</li>" not in shown
    assert "nothing" not in shown
    DepthSample.objects.update(in_progress=4)
    shown = client.get(page).content.decode()
    assert "in progress <b>4</b>" in shown
    assert "not what is in progress" not in shown
