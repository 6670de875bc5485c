"""The figures above the lists of the outbox and the inbox, and what their actions leave behind."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from koan_django.core.models import AuditEvent
from koan_django.inbox.models import InboxEntry
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
