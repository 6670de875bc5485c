"""What is kept of each message, for how long, and what the Overview page says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from koan_django.core.overview import Line, panels
from koan_django.core.redaction import forget_value, register_value
from koan_django.messaging import events
from koan_django.messaging.dead import deadletters
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage, QueuedDelivery
from koan_django.messaging.tasks import forget_old
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
KINDS = [kind for kind, _ in MessageEvent.Kind.choices]
ENVELOPE = Envelope("m1", "order.placed", 1, b'{"number": 1}', {}, "order.placed.p")


def test_without_a_trail_no_event_is_even_made() -> None:
    def made() -> Any:
        raise AssertionError("somebody asked for it")
        yield

    with override_koan(MESSAGING={"TRAIL": "off"}):
        events.record(made())


def dead(state: str = "dead", **columns: Any) -> DeadLetter:
    verdict = Verdict("dead", reason="permanent", error="no")
    made = deadletters.dead_letter(Delivery(ENVELOPE, "main", "billing"), verdict)
    made.state = state
    made.save()
    DeadLetter.objects.filter(pk=made.pk).update(**columns)
    made.refresh_from_db()
    return made


@pytest.mark.parametrize(
    ("trail", "kept"),
    [
        ("all", set(KINDS)),
        ("failures", {"retried", "postponed", "dead", "replayed", "parked", "cancelled", "duplicate", "stopped"}),
        ("off", set()),
    ],
)
def test_the_option_trail_says_which_events_are_kept(trail: str, kept: set[str]) -> None:
    with override_koan(MESSAGING={"TRAIL": trail}):
        events.record(events.event(kind, "main", ENVELOPE) for kind in KINDS)
    assert set(MessageEvent.objects.values_list("kind", flat=True)) == kept


def test_an_event_says_what_happened_where_and_hides_what_is_secret() -> None:
    register_value("hunter2-secret")
    try:
        detail = "x hunter2-secret"
        made = events.event("retried", "main", ENVELOPE, group="g", handler="h", duration=0.0123456, detail=detail)
    finally:
        forget_value("hunter2-secret")
    events.record([made])
    row = MessageEvent.objects.get()
    assert (row.message_id, row.alias, row.bus, row.group, row.handler) == ("m1", "order.placed", "main", "g", "h")
    assert (row.duration_ms, row.correlation_id) == (12.346, "m1")
    assert "hunter2" not in row.detail
    assert row.process.count(":") == 2


def test_retention_removes_what_is_old_and_settled_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koan_django.messaging.tasks.BATCH", 3)  # several batches
    events.record(events.event("sent", "main", ENVELOPE) for _ in range(10))
    old = timezone.now() - timedelta(days=31)
    MessageEvent.objects.filter(pk__in=list(MessageEvent.objects.values_list("pk", flat=True)[:8])).update(at=old)
    waiting = dead(dead_at=old)
    young = dead("replayed")
    dead("replayed", dead_at=old)
    dead("discarded", dead_at=old)
    forget_old()
    assert MessageEvent.objects.count() == 2
    assert set(DeadLetter.objects.values_list("pk", flat=True)) == {waiting.pk, young.pk}


def test_a_dead_letter_is_replayed_once() -> None:
    row = dead()
    with listening(OrderPlaced, group="billing"):
        receipt = deadletters.replay(row)
        with pytest.raises(MessagingError, match="is not replayed: somebody replayed or discarded it already"):
            deadletters.replay(row)
        with pytest.raises(MessagingError, match="is not discarded"):
            deadletters.discard(row)
    waiting = QueuedDelivery.objects.get()
    assert (receipt.id, waiting.message_id, waiting.group, waiting.attempt) == ("m1", "m1", "billing", 1)
    row.refresh_from_db()
    assert (row.state, row.replays) == ("replayed", 1)
    assert row.replayed_at is not None


def test_a_replay_that_reaches_nobody_leaves_the_dead_letter_as_it_was() -> None:
    row = dead()
    with pytest.raises(MessagingError):
        deadletters.replay(row)
    row.refresh_from_db()
    assert (row.state, row.replays) == ("dead", 0)
    assert not MessageEvent.objects.exists()


def panel() -> dict[str, Line]:
    return {line.label: line for line in panels["koan_messaging"].lines()}


def test_the_overview_counts_what_waits_and_what_is_in_trouble() -> None:
    with listening(OrderPlaced, group="billing"):
        assert panel()["Dead letters"].value == "0"
        assert panel()["Dead letters"].status == "healthy"
        assert panel()["Bus main"].value == "database://"
        OrderPlaced(1).send()
        OrderPlaced(2).send()
        QueuedDelivery.objects.all().claim("main", "billing", 1, timedelta(minutes=1))
        dead()
        for state in ("pending", "parked"):
            OutboxMessage.holding("main", ENVELOPE, state=state).save()
        lines = panel()
    assert lines["main / billing"].value == "1 waiting, 1 in progress"
    assert (lines["Dead letters"].value, lines["Dead letters"].status) == ("1", "degraded")
    assert lines["Outbox of main"].value == "1 waiting"
    assert (lines["Parked in the outbox"].value, lines["Parked in the outbox"].status) == ("1", "degraded")
    assert "state__exact=dead" in lines["Dead letters"].url
