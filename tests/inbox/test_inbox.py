"""The inbox around handlers and webhooks, its sweep, its screens and its checks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from koan_django import inbox
from koan_django.core import PermanentError, tenant
from koan_django.core.overview import panels
from koan_django.core.retry import RetryPolicy
from koan_django.core.telemetry import Event, subscribe
from koan_django.inbox.models import InboxEntry
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Lease
from koan_django.inbox.tasks import forget_expired
from koan_django.messaging.buses import registry
from koan_django.messaging.envelope import Delivery, Envelope
from koan_django.messaging.handling.invocation import handle
from koan_django.testing import override_koan
from tests.messaging.shop import OrderPlaced, listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def memory() -> Iterator[None]:
    """A bus that has nothing to settle in the handler's transaction."""
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}):
        yield
        registry.reset()


def delivery(number: int = 1, identifier: str = "m1", **headers: str) -> Delivery:
    body = b'{"number": %d}' % number
    return Delivery(Envelope(identifier, "order.placed", 1, body, headers, "order.placed.p", "g"), "main", "g")


def outcomes(*deliveries: Delivery) -> list[str]:
    return [verdict.outcome for verdict in handle("main", "g", deliveries)]


# handlers


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("atomic", [True, False])
def test_a_message_that_comes_again_is_a_duplicate_and_is_counted(atomic: bool) -> None:
    facts: list[Event] = []
    unsubscribe = subscribe(facts.append, "inbox.")
    try:
        with listening(OrderPlaced, group="g", name="tests.h", atomic=atomic) as arrived:
            assert outcomes(delivery()) == ["handled"]
            assert outcomes(delivery()) == ["duplicate"]
            assert outcomes(delivery(identifier="m2")) == ["handled"]
    finally:
        unsubscribe()
    assert len(arrived) == 2
    entry = InboxEntry.objects.get(key="m1")
    assert (entry.handler, entry.group, entry.bus, entry.alias) == ("tests.h", "g", "main", "order.placed")
    assert (entry.state, entry.duplicates) == ("processed", 1)
    assert entry.processed_at is not None
    assert [(fact.name, fact.metadata["messages"]) for fact in facts] == [("inbox.duplicate", 1)]


@pytest.mark.usefixtures("memory")
def test_handlers_groups_tenants_and_keys_are_told_apart() -> None:
    with listening(OrderPlaced, group="g", name="tests.one"):
        assert outcomes(delivery(), delivery(**{"koan-tenant": "acme"})) == ["handled", "handled"]
        assert outcomes(delivery(identifier="m2", **{"koan-idempotency-key": "m1"})) == ["duplicate"]
    with listening(OrderPlaced, group="g", name="tests.two"):
        assert outcomes(delivery()) == ["handled"]
    assert InboxEntry.objects.count() == 3


@pytest.mark.usefixtures("memory")
def test_a_batch_leaves_out_what_was_handled() -> None:
    with listening(OrderPlaced, group="g", batch=5, name="tests.h") as arrived:
        assert outcomes(delivery(2, "m2")) == ["handled"]
        many = [delivery(number, f"m{number}") for number in (1, 2, 3, 3)]
        assert outcomes(*many) == ["handled", "duplicate", "handled", "duplicate"]
    assert [[message.number for message in messages] for messages, _ in arrived] == [[2], [1, 3]]


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("atomic", [True, False])
def test_a_handler_that_fails_may_try_again(atomic: bool) -> None:
    failures: list[Exception] = [ConnectionError("once")]

    def fail(message: OrderPlaced) -> None:
        if failures:
            raise failures.pop()

    with listening(OrderPlaced, fail, group="g", atomic=atomic, name="tests.h"):
        assert outcomes(delivery()) == ["retry"]
        assert not InboxEntry.objects.filter(state="processed").exists()
        assert outcomes(delivery()) == ["handled"]
    assert InboxEntry.objects.get().attempts == (1 if atomic else 2)


def held() -> Lease:
    """Long work that somebody else is doing."""
    scope = Scope(tenant="", bus="main", group="g", handler="tests.h", alias="order.placed", key="m1")
    lease = configured().begin([scope], timedelta(seconds=60))[0].lease
    assert lease is not None
    return lease


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("atomic", [True, False])
def test_a_message_that_somebody_else_is_handling_is_postponed_without_counting_an_attempt(atomic: bool) -> None:
    lease = held()
    with listening(OrderPlaced, group="g", atomic=atomic, name="tests.h", max_attempts=1) as arrived:
        (verdict,) = handle("main", "g", [delivery()])
        assert (verdict.outcome, verdict.wait) == ("postpone", timedelta(seconds=2))
        assert "is being handled by another worker" in verdict.error
        assert arrived == []
        configured().finish([lease])
        assert outcomes(delivery()) == ["duplicate"]


@pytest.mark.usefixtures("memory")
def test_a_handler_that_became_atomic_does_not_lose_what_it_had_begun() -> None:
    def fail(message: OrderPlaced) -> None:
        raise ConnectionError("at first")

    with listening(OrderPlaced, fail, group="g", atomic=False, name="tests.h"):
        assert outcomes(delivery()) == ["retry"]
    with listening(OrderPlaced, group="g", name="tests.h") as arrived:
        assert outcomes(delivery()) == ["handled"]
        assert outcomes(delivery()) == ["duplicate"]
    assert len(arrived) == 1


@pytest.mark.usefixtures("memory")
def test_long_work_runs_outside_a_transaction_and_its_result_is_fenced() -> None:
    inside: list[bool] = []

    def overtaken(message: OrderPlaced) -> None:
        inside.append(connection.in_atomic_block)
        entry = InboxEntry.objects.get()
        assert (entry.state, entry.attempts) == ("processing", 1)
        InboxEntry.objects.update(lease_token=entry.lease_token + 1)  # somebody took over

    with listening(OrderPlaced, overtaken, group="g", atomic=False, name="tests.h"):
        (verdict,) = handle("main", "g", [delivery()])
    assert inside == [False]
    assert verdict.outcome == "postpone"
    assert "taken over by another worker" in verdict.error
    assert InboxEntry.objects.get().state == "processing"


# webhooks


def test_a_claim_is_committed_with_the_work() -> None:
    with inbox.claim("stripe", "evt-1") as claim:
        assert (claim.source, claim.key, claim.duplicate) == ("stripe", "evt-1", False)
        User.objects.create_user("paid")
    with inbox.claim("stripe", "evt-1") as claim:
        assert claim.duplicate
    with inbox.claim("github", "evt-1") as claim:
        assert not claim.duplicate
    with tenant.use("acme"), inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate
    assert InboxEntry.objects.get(handler="stripe", tenant="").duplicates == 1


def test_a_claim_whose_work_fails_was_never_made() -> None:
    with pytest.raises(PermanentError), inbox.claim("stripe", "evt-1"):
        User.objects.create_user("paid")
        raise PermanentError("no")
    assert not User.objects.exists()
    assert not InboxEntry.objects.exists()
    with inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate


def test_a_claim_takes_part_in_an_outer_transaction() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with inbox.claim("stripe", "evt-1"):
            pass
        raise ZeroDivisionError
    assert not InboxEntry.objects.exists()


@pytest.mark.parametrize("key", ["x" * 5000, "a\x00b"])
def test_any_source_and_key_will_do(key: str) -> None:
    for expected in (False, True):
        with inbox.claim(key, key) as claim:
            assert claim.duplicate is expected


# sweep


def entry(state: str = "processed", days: float = 0, **columns: Any) -> InboxEntry:
    columns |= {"fingerprint": f"{state} {days} {InboxEntry.objects.count()}", "state": state}
    made = InboxEntry.objects.create(handler="h", key="k", claim="c", **columns)
    at = timezone.now() - timedelta(days=days)
    InboxEntry.objects.filter(pk=made.pk).update(first_seen_at=at, processed_at=at if state == "processed" else None)
    return made


def test_the_sweep_forgets_what_is_older_than_the_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koan_django.inbox.tasks.BATCH", 2)
    for _ in range(5):
        entry(days=8)
    entry("processing", days=8)  # given up
    kept = {
        entry(days=6).pk,
        entry("processing", days=6).pk,
        entry("processing", days=8, lease_until=timezone.now() + timedelta(minutes=1)).pk,
    }
    forget_expired()
    assert set(InboxEntry.objects.values_list("pk", flat=True)) == kept
    with override_koan(INBOX={"RETENTION": "5d"}):
        forget_expired()
    assert InboxEntry.objects.count() == 1


# screens


@pytest.fixture
def staff(client: Any) -> Any:
    def login(*codenames: str) -> Any:
        user = User.objects.create_user("staff", password="x", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return login


def act(client: Any, row: InboxEntry, action: str, **data: str) -> str:
    url = reverse("admin:koan_inbox_inboxentry_changelist")
    return str(client.post(url, {"action": action, "_selected_action": row.pk, **data}, follow=True).content.decode())


def test_a_release_frees_the_work_and_keeps_the_late_result_out(staff: Any) -> None:
    lease = held()
    client = staff("view_inboxentry", "release_inboxentry")
    row = InboxEntry.objects.get()
    assert 'name="confirmed"' in act(client, row, "release")
    assert InboxEntry.objects.get().lease_until is not None
    act(client, row, "release", confirmed="1")
    assert "was not released" in act(client, row, "release", confirmed="1")
    assert held().token > lease.token
    with pytest.raises(Exception, match="taken over"):
        configured().finish([lease])
    assert LogEntry.objects.get().change_message.startswith("released from ")


def test_a_forgotten_entry_lets_the_next_duplicate_run(staff: Any) -> None:
    with inbox.claim("stripe", "evt-1"):
        pass
    client = staff("view_inboxentry", "forget_inboxentry")
    row = InboxEntry.objects.get()
    assert 'name="confirmed"' in act(client, row, "forget")
    assert InboxEntry.objects.exists()
    act(client, row, "forget", confirmed="1")
    assert LogEntry.objects.get().change_message == "forgotten: stripe evt-1"
    with inbox.claim("stripe", "evt-1") as claim:
        assert not claim.duplicate


def test_what_is_being_handled_is_not_forgotten(staff: Any) -> None:
    held()
    shown = act(staff("view_inboxentry", "forget_inboxentry"), InboxEntry.objects.get(), "forget", confirmed="1")
    assert "was not forgotten" in shown
    assert InboxEntry.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["release", "forget"])
def test_who_may_only_view_can_do_nothing(staff: Any, action: str) -> None:
    row = held() and InboxEntry.objects.get()
    client = staff("view_inboxentry")
    assert "m1" in client.get(reverse("admin:koan_inbox_inboxentry_change", args=[row.pk])).content.decode()
    before = InboxEntry.objects.values().get()
    act(client, row, action, confirmed="1")
    assert InboxEntry.objects.values().get() == before


def test_the_overview_counts_what_is_remembered() -> None:
    held()
    for _ in range(3):
        with inbox.claim("stripe", "evt-1"):
            pass
    lines = {line.label: line.value for line in panels["koan_inbox"].lines()}
    assert lines == {"Remembered": "1", "Being handled": "1", "Duplicates suppressed": "2"}


# checks


#: The other tests serve the inbox, without tokens.
urlpatterns: list[Any] = []


def found(**koan: Any) -> dict[str, str]:
    with override_koan(**koan), override_settings(ROOT_URLCONF=__name__):
        reports = checks.run_checks(apps.get_app_configs())
    return {str(each.id): f"{each.msg} | {each.hint}" for each in reports if (each.id or "").startswith("koan_inbox")}


def deployed(**koan: Any) -> dict[str, str]:
    with override_koan(**koan):
        reports = checks.run_checks(apps.get_app_configs(), include_deployment_checks=True)
    return {str(each.id): f"{each.msg} | {each.hint}" for each in reports if (each.id or "").startswith("koan_inbox")}


def test_the_settings_of_the_tests_are_right() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"RETENTON": "7d"}, "did you mean 'RETENTION'?"),
        ({"RETENTION": "1h"}, "RETENTION must be between 1 and 30 days"),
        ({"LEASE": 1}, "LEASE must be between 5 and 120 s"),
    ],
)
def test_e001_a_wrong_option(options: dict[str, Any], expected: str) -> None:
    assert expected in found(INBOX=options)["koan_inbox.E001"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"STORE": "reddis"}, "'reddis' is not one of 'database', 'http', 'redis', 'memory'; did you mean 'redis'?"),
        ({"STORE": "shop.missing.Store"}, "KOAN['INBOX']['STORE']: shop.missing.Store: No module named 'shop'"),
        ({"STORE": "koan_django.inbox.models.InboxEntry"}, "is no store of the inbox"),
        ({"OPTIONS": {"CACHE": "default"}}, "KOAN['INBOX']['OPTIONS']['CACHE']: unknown option"),
        ({"STORE": "redis"}, "settings.CACHES['default'] is not a cache of django-redis"),
        ({"STORE": "redis", "OPTIONS": {"CACHE": "fast"}}, "settings.CACHES has no alias 'fast'"),
        ({"STORE": "redis", "OPTIONS": {"PREFIX": "{a}"}}, "PREFIX must be text without braces and blanks"),
        ({"STORE": "memory", "OPTIONS": {"MAX_ENTRIES": 0}}, "MAX_ENTRIES must be at least 1"),
    ],
)
def test_e002_a_store_that_cannot_be_made(options: dict[str, Any], expected: str) -> None:
    assert expected in found(INBOX=options)["koan_inbox.E002"]
    with override_koan(INBOX=options), pytest.raises(ImproperlyConfigured):
        configured()


def test_e003_no_memory_of_one_process_in_production() -> None:
    assert "remembers in the memory of each process" in deployed(INBOX={"STORE": "memory"})["koan_inbox.E003"]
    assert "koan_inbox.E003" not in found(INBOX={"STORE": "memory"})


def test_w004_a_store_that_does_not_commit_with_the_work() -> None:
    assert "koan_inbox.W004" not in deployed()
    assert "is not in the database of the handlers" in deployed(INBOX={"STORE": "memory"})["koan_inbox.W004"]


def test_w001_retries_that_outlast_the_memory() -> None:
    retry = {"MAX_ATTEMPTS": 10, "FIRST_DELAY": "1d", "MAX_DELAY": "1d"}
    text = found(MESSAGING={"BUSES": {"main": {"RETRY": retry}}})["koan_inbox.W001"]
    assert "the bus 'main' may retry for 9 days" in text


def test_w001_a_handler_whose_own_retries_outlast_the_memory() -> None:
    retry = RetryPolicy(max_attempts=10, first_delay=timedelta(days=1), max_delay=timedelta(days=1))
    with listening(OrderPlaced, group="g", name="tests.h", retry=retry):
        assert "the handler tests.h may retry for 9 days" in found()["koan_inbox.W001"]
