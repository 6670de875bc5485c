"""Messaging in the admin: who may see, who may act, and what the pages show."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from koan_django.core.models import AuditEvent
from koan_django.messaging.dead import deadletters
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage, QueuedDelivery
from tests.messaging.shop import OrderPlaced, StockMoved, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

BODY = b'{"sku": "a-1", "count": 2, "supplier_token": "hunter2"}'
ENVELOPE = Envelope("m1", "stock.moved", 1, BODY, {"koan-tenant": "acme"}, "stock.moved.p3")
MODELS = ("deadletter", "outboxmessage", "queueddelivery", "messageevent")


@pytest.fixture
def staff(client: Any) -> Any:
    """Return a function that logs somebody in with permissions such as ``view_deadletter``."""

    def login(*codenames: str) -> Any:
        user = User.objects.create_user("staff", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert user.user_permissions.count() == len(codenames)
        client.force_login(user)
        return client

    return login


@pytest.fixture
def boss(client: Any) -> Any:
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def dead() -> DeadLetter:
    verdict = Verdict("dead", "stock.move", "permanent", "app.StockError", "no such shelf", "Traceback <b>here</b>")
    made = deadletters.dead_letter(Delivery(ENVELOPE, "main", "stock"), verdict)
    made.save()
    return made


@pytest.fixture
def parked() -> OutboxMessage:
    made = OutboxMessage.holding("main", ENVELOPE, state="parked", last_error="no queue", available_at=timezone.now())
    made.save()
    return made


def act(client: Any, row: Any, action: str, **data: str) -> str:
    url = reverse(f"admin:koan_messaging_{row._meta.model_name}_changelist")
    page = client.post(url, {"action": action, "_selected_action": row.pk, **data}, follow=True)
    return str(page.content.decode())


def page(client: Any, row: Any) -> str:
    url = reverse(f"admin:koan_messaging_{row._meta.model_name}_change", args=[row.pk])
    return str(client.get(url).content.decode())


def test_pages_show_messages_with_what_is_sensitive_masked(boss: Any, dead: DeadLetter, parked: OutboxMessage) -> None:
    with listening(StockMoved, group="stock"):
        StockMoved("a-1", 2, "hunter2").send()
    for row in (dead, parked, QueuedDelivery.objects.get()):
        shown = page(boss, row)
        assert "a-1" in shown
        assert "hunter2" not in shown
        assert f"?q={row.message_id}" in shown  # the way to its events
    shown = page(boss, dead)
    for text in ("no such shelf", "app.StockError", "stock.move", "Traceback &lt;b&gt;here", "the handler refused it"):
        assert text in shown
    assert "stock.moved" in page(boss, MessageEvent.objects.get())


def test_lists_can_be_searched_and_filtered(boss: Any, dead: DeadLetter) -> None:
    url = reverse("admin:koan_messaging_deadletter_changelist")
    for query in (f"?q={dead.fingerprint}", "?state__exact=dead", "?reason__exact=permanent", "?q=m1"):
        assert "no such shelf" in boss.get(url + query).content.decode(), query
    for query in ("?q=other", "?state__exact=replayed"):
        assert "no such shelf" not in boss.get(url + query).content.decode(), query
    for name in MODELS:
        assert boss.get(reverse(f"admin:koan_messaging_{name}_changelist")).status_code == 200


def test_a_replay_sends_the_message_again_and_is_logged(staff: Any, dead: DeadLetter) -> None:
    client = staff("view_deadletter", "replay_deadletter")
    with listening(StockMoved, group="stock"):
        assert "1 done" in act(client, dead, "replay")
        assert "somebody replayed or discarded it already" in act(client, dead, "replay")
    assert QueuedDelivery.objects.get().message_id == "m1"
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (str(dead.pk), "replayed as m1")


def test_a_replay_that_reaches_nobody_says_so_and_is_not_logged(staff: Any, dead: DeadLetter) -> None:
    shown = act(staff("view_deadletter", "replay_deadletter"), dead, "replay")
    assert "reaches nobody" in shown
    assert not LogEntry.objects.exists()


def test_a_discard_asks_first_and_is_logged(staff: Any, dead: DeadLetter) -> None:
    client = staff("view_deadletter", "discard_deadletter")
    assert 'name="confirmed"' in act(client, dead, "discard")
    dead.refresh_from_db()
    assert dead.state == "dead"
    act(client, dead, "discard", confirmed="1")
    dead.refresh_from_db()
    assert dead.state == "discarded"
    assert LogEntry.objects.get().change_message == "discarded"


def test_a_parked_message_is_published_or_discarded(staff: Any, parked: OutboxMessage) -> None:
    client = staff("view_outboxmessage", "publish_outboxmessage")
    act(client, parked, "publish")
    parked.refresh_from_db()
    assert parked.state == "pending"
    assert 'name="confirmed"' in act(client, parked, "discard")
    act(client, parked, "discard", confirmed="1")
    assert not OutboxMessage.objects.exists()
    event = MessageEvent.objects.get()
    assert (event.kind, event.message_id, event.detail) == ("cancelled", "m1", "by staff")
    assert [entry.change_message for entry in LogEntry.objects.order_by("id")] == ["due now", "discarded m1"]


@pytest.mark.parametrize(
    ("fixture", "action"), [("dead", "replay"), ("dead", "discard"), ("parked", "publish"), ("parked", "discard")]
)
def test_who_may_only_view_sees_everything_and_can_do_nothing(
    staff: Any, request: pytest.FixtureRequest, fixture: str, action: str
) -> None:
    row = request.getfixturevalue(fixture)
    client = staff(*(f"view_{name}" for name in MODELS))
    before = type(row).objects.values().get()
    assert "a-1" in page(client, row)
    with listening(StockMoved, group="stock"):
        act(client, row, action)
        act(client, row, action, confirmed="1")
    assert type(row).objects.values().get() == before
    assert not LogEntry.objects.exists()
    assert not QueuedDelivery.objects.exists()


def test_one_permission_does_not_give_another(staff: Any, dead: DeadLetter) -> None:
    client = staff("view_deadletter", "discard_deadletter")
    with listening(StockMoved, group="stock"):
        act(client, dead, "replay")
    dead.refresh_from_db()
    assert dead.state == "dead"


@pytest.mark.parametrize("name", MODELS)
def test_nobody_adds_changes_or_deletes_what_code_writes(boss: Any, name: str) -> None:
    assert boss.get(reverse(f"admin:koan_messaging_{name}_add")).status_code == 403
    with listening(OrderPlaced, group="g"):
        OrderPlaced(1).send()
    row = MessageEvent.objects.get()
    url = reverse("admin:koan_messaging_messageevent_change", args=[row.pk])
    assert boss.post(url, {"kind": "dead"}).status_code == 403
    assert boss.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403


def test_a_row_of_an_unknown_or_broken_alias_can_still_be_read(boss: Any, dead: DeadLetter) -> None:
    DeadLetter.objects.update(alias="gone.away", body=b"\xff\x00 not json", headers={"n": "\u2028<script>"})
    shown = page(boss, DeadLetter.objects.get())
    assert "not json" in shown
    assert "<script>" not in shown.partition("koan-json")[2].partition("</pre>")[0]


def test_replaying_and_discarding_are_audited_by_the_domain_and_by_the_admin(staff: Any, dead: DeadLetter) -> None:
    client = staff("view_deadletter", "replay_deadletter")
    with listening(StockMoved, group="stock"):
        act(client, dead, "replay")
    events = {event.action: event for event in AuditEvent.objects.all()}
    assert set(events) == {"messaging.replay", "admin.replay", "http.request"}
    assert events["messaging.replay"].data["group"] == "stock"
    assert {event.actor for event in events.values()} == {"staff"}
    assert {event.object_id for name, event in events.items() if name != "http.request"} == {str(dead.pk)}
    with pytest.raises(MessagingError):
        deadletters.discard(dead)
    assert AuditEvent.objects.count() == 3, "what was refused was not done"
