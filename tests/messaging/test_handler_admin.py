"""The handlers in the admin and on the command line: who may pause them, and what the pages show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from koan_django.core import breaker, health, policy
from koan_django.core.models import AuditEvent
from koan_django.messaging import handlers
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.base import Batch
from koan_django.messaging.control import pausing
from koan_django.messaging.control.tallying import Tally
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.exceptions import MessagingError
from koan_django.messaging.handling.consumer import Consumer
from koan_django.messaging.handling.verdicts import Verdict
from koan_django.messaging.models import RegisteredHandler
from koan_django.testing import frozen_clock, override_koan
from koan_django.testing.clock import FrozenClock
from tests.messaging.shop import OrderPaid, OrderPlaced, ThreadPool, listening

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LIST = "admin:koan_messaging_registeredhandler_changelist"


@pytest.fixture
def staff(client: Any) -> Any:
    def login(*codenames: str) -> Any:
        user = User.objects.create_user("staff", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert user.user_permissions.count() == len(codenames)
        client.force_login(user)
        return client

    return login


@pytest.fixture
def row() -> Any:
    """A handler that a worker has declared."""
    with listening(OrderPlaced, group="billing", name="billing.open", breaker=True):
        Tally("main").flush()
        yield RegisteredHandler.objects.get()


def act(client: Any, row: RegisteredHandler, action: str, **data: str) -> str:
    page = client.post(reverse(LIST), {"action": action, "_selected_action": row.pk, **data}, follow=True)
    return str(page.content.decode())


def manage(*words: str) -> str:
    out = StringIO()
    call_command("koan_handlers", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_a_pause_in_the_admin_says_who_why_and_since_when(staff: Any, row: RegisteredHandler) -> None:
    client = staff("view_registeredhandler", "pause_registeredhandler")
    assert "1 done" in act(client, row, "pause", reason="wrong VAT")
    row.refresh_from_db()
    assert (row.paused, row.pause_reason, row.paused_by) == (True, "wrong VAT", "staff")
    assert row.paused_at is not None
    assert LogEntry.objects.get().change_message == "paused: wrong VAT"
    event = AuditEvent.objects.get(action="messaging.pause")
    assert (event.actor, event.data) == ("staff", {"reason": "wrong VAT"})
    assert "by staff: wrong VAT" in client.get(reverse(LIST) + str(row.pk) + "/change/").content.decode()
    assert "somebody has paused it already" in act(client, row, "pause")
    assert "1 done" in act(client, row, "resume")
    row.refresh_from_db()
    assert (row.paused, row.pause_reason, row.paused_by, row.paused_at) == (False, "", "", None)
    assert "it is not paused" in act(client, row, "resume")


def test_who_may_only_look_neither_pauses_nor_deletes(staff: Any, row: RegisteredHandler) -> None:
    client = staff("view_registeredhandler")
    assert "billing.open" in client.get(reverse(LIST)).content.decode()
    act(client, row, "pause")
    act(client, row, "delete_selected", post="yes")
    row.refresh_from_db()
    assert not row.paused
    assert not AuditEvent.objects.filter(action__startswith="messaging.").exists()


def test_only_a_handler_that_is_gone_can_be_deleted(staff: Any, row: RegisteredHandler) -> None:
    client = staff("view_registeredhandler", "delete_registeredhandler")
    long_ago = timezone.now() - timedelta(hours=1)
    RegisteredHandler.objects.update(last_seen=long_ago)
    old = RegisteredHandler.objects.create(name="billing.old", bus="main", group="billing", last_seen=long_ago)
    shown = client.get(reverse(LIST)).content.decode()
    assert ">silent<" in shown
    assert ">gone<" in shown
    act(client, row, "delete_selected", post="yes")
    act(client, old, "delete_selected", post="yes")
    assert [each.name for each in RegisteredHandler.objects.all()] == ["billing.open"]


def test_the_page_of_a_handler_leads_to_its_breaker(staff: Any, row: RegisteredHandler) -> None:
    client = staff("view_registeredhandler")
    breaker.trip("messaging.handler.billing.open", "the bank is closed")
    shown = client.get(reverse("admin:koan_messaging_registeredhandler_change", args=[row.pk])).content.decode()
    assert "the bank is closed" in shown
    assert ">open<" in shown
    assert "?q=messaging.handler.billing.open" in shown


def test_a_list_of_many_costs_no_query_for_each(staff: Any, row: RegisteredHandler) -> None:
    client = staff("view_registeredhandler")

    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            client.get(reverse(LIST))
        return len(caught)

    queries()
    few = queries()
    for number in range(20):
        RegisteredHandler.objects.create(name=f"billing.n{number}", bus="main", group="billing")
    assert queries() == few


def test_the_command_lists_pauses_and_resumes(row: RegisteredHandler) -> None:
    assert "running    main/billing  billing.open  nothing yet" in manage("list")
    manage("pause", "billing.open", "--reason", "wrong VAT")
    [told] = json.loads(manage("list", "--format", "json"))
    assert (told["state"], told["receives"], told["handled"]) == ("paused", "order.placed", 0)
    assert told["why"].endswith(": wrong VAT")
    assert AuditEvent.objects.filter(action="command.run").count() == 1
    manage("resume", "billing.open")
    assert not RegisteredHandler.objects.get().paused


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pause", "billing.opne"), "there is no handler 'billing.opne'; did you mean 'billing.open'?"),
        (("resume", "billing.open"), "billing.open is not resumed: it is not paused"),
    ],
    ids=["unknown", "not paused"],
)
def test_the_command_refuses_what_it_cannot_do(row: RegisteredHandler, words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(CommandError) as raised:
        manage(*words)
    assert expected in str(raised.value)
    assert raised.value.returncode == 2


def test_a_handler_that_no_worker_had_yet_can_be_paused() -> None:
    with listening(OrderPlaced, group="billing", name="billing.new"):
        pausing.pause("billing.new")
        assert pausing.paused().keys() == {"billing.new"}
    with pytest.raises(MessagingError, match="there is no handler"):
        pausing.pause("billing.other")


def test_health_names_a_handler_that_is_paused(row: RegisteredHandler) -> None:
    pausing.pause("billing.open", "wrong VAT")
    [found] = [each for each in health.aggregate().findings if each.name == "messaging.handler.billing.open"]
    assert found.status == "degraded"
    assert found.message.endswith(": wrong VAT")


FAILED = Verdict("retry", "two", error_type="a.B", error="c")


def judged(*verdicts: Verdict) -> list[tuple[Delivery, Verdict]]:
    return [(Delivery(Envelope("1", "a", 1, b"", {}, "a.p"), "main", "workers"), verdict) for verdict in verdicts]


@frozen_clock()
def test_counts_cost_one_statement_for_each_handler_however_many_messages_there_were() -> None:
    with listening(OrderPlaced, name="one"), listening(OrderPaid, name="two"):
        tally = Tally("main")
        tally.flush()
        for _ in range(1000):
            tally.note(judged(Verdict("handled", "one", seconds=0.001), FAILED))
        with CaptureQueriesContext(connection) as caught:
            tally.flush()
            tally.flush()
    assert len(caught) == 2
    assert {row.name: (row.handled, row.retried) for row in RegisteredHandler.objects.all()} == {
        "one": (1000, 0),
        "two": (0, 1000),
    }


@pytest.fixture
def as_in_production(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Policy is kept until its version has changed."""
    monkeypatch.setattr(policy, "under_test", lambda: False)
    monkeypatch.setattr(pausing.paused, "_kept", None)
    policy.watch.forget()
    yield
    policy.watch.forget()


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    """One that is not started: the test takes its turns."""
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}), listening(OrderPlaced, name="one"):
        pool = ThreadPool(1)
        yield registry.get("main").consumer(pool)
        pool.shutdown()
        registry.reset()


def turns(consumer: Consumer, clock: FrozenClock, seconds: int) -> list[str]:
    """Let it look around twenty times a second; return the statements."""
    with CaptureQueriesContext(connection) as caught:
        for _ in range(seconds * 20):
            consumer._look_around()
            clock.advance(seconds=0.05)
    return [each["sql"] for each in caught]


def test_a_worker_asks_for_the_policy_once_a_second_and_learns_of_a_pause_by_that(
    as_in_production: None, consumer: Consumer, django_capture_on_commit_callbacks: Any
) -> None:
    with frozen_clock() as clock:
        turns(consumer, clock, 1)  # what it does first
        resting = turns(consumer, clock, 10)
        assert [sql for sql in resting if "koan_core_policyversion" not in sql] == []
        assert len(resting) <= 10
        with django_capture_on_commit_callbacks(execute=True):
            pausing.pause("one")
        turns(consumer, clock, 2)
        assert "one" in consumer.gate.held
        with django_capture_on_commit_callbacks(execute=True):
            pausing.resume("one")
        turns(consumer, clock, 2)
        assert not consumer.gate.held


def test_a_message_costs_the_gate_and_the_tally_no_statement(as_in_production: None, consumer: Consumer) -> None:
    with frozen_clock() as clock:
        turns(consumer, clock, 1)
        consumer._look_around()  # the clock stands still from here on
        with CaptureQueriesContext(connection) as caught:
            for _ in range(1000):
                pairs = judged(Verdict("handled", "one", seconds=0.001))
                batch = Batch("main", "workers", tuple(delivery for delivery, _ in pairs))
                assert consumer.gate.admit(batch).batch is batch
                consumer._tally.note(pairs)
                consumer._look_around()
    assert len(caught) == 0


def test_workers_add_to_what_others_have_counted() -> None:
    with listening(OrderPlaced, name="one"):
        first, second = Tally("main"), Tally("main")
        for tally, seconds in ((first, 0.2), (second, 0.1), (first, 0.05)):
            tally.note(judged(Verdict("handled", "one", seconds=seconds)))
            tally.flush()
    row = RegisteredHandler.objects.get()
    assert (row.handled, round(row.total_ms), round(row.worst_ms)) == (3, 350, 200)


def test_what_code_says_now_replaces_what_it_said_and_keeps_the_counts() -> None:
    with listening(OrderPlaced, name="one", group="old"):
        tally = Tally("main")
        tally.note(judged(Verdict("handled", "one")))
        tally.flush()
        pausing.pause("one")
    with listening(OrderPaid, name="one", group="new"):
        Tally("main").flush()
    row = RegisteredHandler.objects.get()
    assert (row.group, row.binding, row.handled, row.paused) == ("new", "order.paid", 1, True)


def test_a_breaker_of_a_handler_is_declared_with_it_and_goes_with_it() -> None:
    with listening(OrderPlaced, name="one", breaker=True):
        assert "messaging.handler.one" in breaker.breakers.names()
        assert handlers.find("main", "workers", "order.placed") is not None
    assert "messaging.handler.one" not in breaker.breakers.names()
