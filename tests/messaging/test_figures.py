"""The figures above the lists of the outbox and the inbox, and what their actions leave behind."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from koan_django.core.admin import figures as figures_of
from koan_django.core.models import AuditEvent
from koan_django.inbox.admin import InboxEntryAdmin
from koan_django.inbox.models import InboxEntry
from koan_django.messaging.admin.backlog import standing
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import OutboxLane, OutboxMessage, OutboxRelay

pytestmark = [pytest.mark.django_db, pytest.mark.database]
ENVELOPE = Envelope("m1", "stock.moved", 1, b"{}", {}, "stock.moved.p")


def figures(client: Any, name: str) -> dict[str, str]:
    """The figures of a list, by what stands above them."""
    shown = client.get(reverse(f"admin:{name}_changelist")).content.decode()
    return {label: re.sub(r"<[^>]+>", "", value) for label, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", shown)}


@pytest.fixture
def staff(client: Any) -> Any:
    user = User.objects.create_user("staff", is_staff=True)
    codenames = ("view_outboxmessage", "view_inboxentry", "release_inboxentry")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def test_the_outbox_tells_its_lag_its_troubles_and_who_publishes_it(staff: Any) -> None:
    now = timezone.now()
    rows: list[dict[str, Any]] = [
        {"available_at": now - timedelta(seconds=300)},
        {"available_at": now + timedelta(hours=1), "tries": 2},
        {"available_at": now - timedelta(hours=2), "state": "parked"},
    ]
    for row in rows:
        OutboxMessage.holding("main", ENVELOPE, **row).save()
    for number, until in ((1, now + timedelta(minutes=1)), (2, now - timedelta(minutes=1))):
        OutboxLane.objects.create(bus="main", number=number, lease_until=until, lease_owner="w")
        OutboxRelay.objects.create(bus="main", worker=f"w{number}", until=until)
    told = figures(staff, "koan_messaging_outboxmessage")
    assert int(told.pop("the oldest, for").removesuffix(" s")) >= 300
    del told["&nbsp;"]
    assert told == {"waiting": "2", "tried again": "1", "parked": "1", "relays": "1", "lanes held": "1"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many rows a figure may read here."""
    monkeypatch.setattr(figures_of, "MOST", 20)
    return 20


def analyze(table: str) -> None:
    """Let PostgreSQL know how its rows are."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {table}")


def rows_read(queries: CaptureQueriesContext, table: str) -> list[int]:
    """Have PostgreSQL explain again what was asked of ``table``: how many rows of it each question reads."""
    found: list[int] = []
    for sql in [each["sql"] for each in queries if f'"{table}"' in each["sql"]]:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            found.append(_most_rows(cursor.fetchone()[0][0]["Plan"]))
    return found


def _most_rows(plan: dict[str, Any]) -> int:
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return max([int(here), *(_most_rows(each) for each in plan.get("Plans", ()))])


def test_the_figures_of_a_large_outbox_read_no_more_rows_than_they_may(few: int) -> None:
    now = timezone.now()
    waiting = [OutboxMessage.holding("main", ENVELOPE, available_at=now - timedelta(hours=1)) for _ in range(3000)]
    parked = [OutboxMessage.holding("main", ENVELOPE, state="parked") for _ in range(300)]
    OutboxMessage.objects.bulk_create([*waiting, *parked])
    analyze("koan_messaging_outboxmessage")
    with CaptureQueriesContext(connection) as queries:
        [row] = standing()
    told = {str(figure.label): str(figure.value) for figure in row.figures}
    assert told["waiting"] == told["parked"] == "more than 20"
    assert int(told["the oldest, for"].removesuffix(" s")) >= 3600
    assert len(queries) == 4  # the backlog, what is parked, lanes, relays
    if connection.vendor == "postgresql":
        assert 0 < max(rows_read(queries, "koan_messaging_outboxmessage")) <= few + 1


@pytest.mark.parametrize("delayed", [0, 1000])
def test_a_relay_reads_its_batch_without_sorting_the_backlog_even_if_the_statistics_know_of_none(delayed: int) -> None:
    now = timezone.now()
    later = [OutboxMessage.holding("main", ENVELOPE, available_at=now + timedelta(days=1)) for _ in range(delayed)]
    waiting = [OutboxMessage.holding("main", ENVELOPE, available_at=now - timedelta(hours=1)) for _ in range(3000)]
    OutboxMessage.objects.bulk_create([*later, *waiting])
    with CaptureQueriesContext(connection) as queries:
        found = OutboxMessage.objects.all().due("main", 50)
    assert [each.pk for each in found] == [row.pk for row in waiting[:50]]
    if connection.vendor == "postgresql":
        assert rows_read(queries, "koan_messaging_outboxmessage") in ([50], [50 + delayed])  # by one index or another
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            plan = str(cursor.fetchall())
        assert "TEMP B-TREE" not in plan


def test_the_figures_of_a_large_inbox_read_no_more_rows_than_they_may(few: int) -> None:
    now = timezone.now()
    done = [
        InboxEntry(fingerprint=f"{n}", handler="h", key="k", state="processed", processed_at=now) for n in range(3000)
    ]
    begun = [InboxEntry(fingerprint=f"b{n}", handler="h", key="k", state="processing") for n in range(30)]
    InboxEntry.objects.bulk_create([*begun, *done])
    InboxEntry.objects.update(duplicates=1)
    analyze("koan_inbox_inboxentry")
    with CaptureQueriesContext(connection) as queries:
        [row] = InboxEntryAdmin(InboxEntry, admin.site).figures()
    told = {str(figure.label): str(figure.value) for figure in row.figures}
    assert told["remembered"] == told["given up"] == "more than 20"
    assert told["duplicates suppressed of the last 20"] == "20"
    assert len(queries) == 3  # the newest, whether there are more, what is unfinished
    if connection.vendor == "postgresql":
        assert 0 < max(rows_read(queries, "koan_inbox_inboxentry")) <= few + 1


def test_an_outbox_without_anything_has_no_figures(staff: Any) -> None:
    assert figures(staff, "koan_messaging_outboxmessage") == {}


def entry(fingerprint: str, **columns: Any) -> InboxEntry:
    return InboxEntry.objects.create(fingerprint=fingerprint, handler="h", key=fingerprint, **columns)


def test_the_inbox_tells_what_it_remembers_for_how_long_and_what_is_stuck(staff: Any) -> None:
    now = timezone.now()
    entry("a", state="processed", duplicates=3)
    entry("b", state="processing", lease_until=now + timedelta(minutes=1))
    entry("c", state="processing", lease_until=now - timedelta(minutes=1))
    told = figures(staff, "koan_inbox_inboxentry")
    del told["&nbsp;"]
    assert told == {
        "remembered": "1",
        "for": "7 days",
        "being handled": "1",
        "given up": "1",
        "duplicates suppressed": "3",
    }


def test_a_stuck_lease_is_released_by_who_may_and_that_is_audited(staff: Any, client: Any) -> None:
    stuck = entry("b", state="processing", lease_token=4, lease_until=timezone.now() + timedelta(minutes=1))
    url = reverse("admin:koan_inbox_inboxentry_changelist")
    data = {"action": "release", "_selected_action": stuck.pk}
    assert 'name="confirmed"' in staff.post(url, data).content.decode()
    staff.post(url, data | {"confirmed": "1"})
    stuck.refresh_from_db()
    assert (stuck.lease_until, stuck.lease_token) == (None, 5)  # a late result is fenced off
    assert AuditEvent.objects.filter(action="admin.release").count() == 1
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="release_inboxentry"))
    InboxEntry.objects.update(lease_until=timezone.now() + timedelta(minutes=1))
    staff.post(url, data | {"confirmed": "1"})
    stuck.refresh_from_db()
    assert stuck.lease_until is not None
