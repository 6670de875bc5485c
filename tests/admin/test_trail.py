"""The Trail page: every app's part of one story, in order, a page at a time, for those who may see it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import models
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koan_django.core import audit, trail
from koan_django.core.admin import trail as screen
from koan_django.core.context import correlation, tenant
from koan_django.core.models import AuditEvent
from koan_django.core.trail import Cursor, Reader
from koan_django.inbox.models import InboxEntry
from koan_django.media.models import Derivation
from koan_django.messaging.envelope import Envelope
from koan_django.messaging.models import DeadLetter, MessageEvent, OutboxMessage, QueuedDelivery
from koan_django.storage.models import Tombstone

pytestmark = [pytest.mark.database, pytest.mark.django_db]

STORY = "story-1"
BEGAN = datetime(2026, 11, 25, 12, tzinfo=UTC)
EVERYTHING = Reader(lambda model: True)


def moment(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def message(seconds: float, kind: str = "sent", **columns: Any) -> MessageEvent:
    values = {"alias": "order.paid", "bus": "main", "message_id": "m1", "correlation_id": STORY, **columns}
    row = MessageEvent.objects.create(kind=kind, **values)
    MessageEvent.objects.filter(pk=row.pk).update(at=moment(seconds))
    return row


def request_event(seconds: float = 0, **data: Any) -> AuditEvent | None:
    told = {"method": "POST", "status": 202, "view": "shop:pay", "duration_ms": 40.0, **data}
    with correlation.use(STORY):
        return audit.record(
            "http.request",
            audit.Reference("http", "/pay", "POST /pay"),
            actor=audit.Actor("ann", "auth.user:1"),
            data=told,
            at=moment(seconds),
        )


def story() -> None:
    """One row of every sort, a second apart."""
    request_event()
    message(1, process="host:1:web")
    message(2, "handled", handler="shop.ship", duration_ms=500.0, process="host:2:worker")
    message(3, "retried", attempt=2, detail="no shelf")
    envelope = Envelope("m1", "order.paid", 1, b"{}", {"koan-correlation": STORY}, "order.paid.p1", group="shipping")
    stamp = {"correlation_id": STORY}
    DeadLetter.holding("main", envelope, reason="exhausted", error="no shelf", fingerprint="f", **stamp).save()
    DeadLetter.objects.update(dead_at=moment(4))
    OutboxMessage.holding("main", envelope, created_at=moment(5), available_at=moment(5)).save()
    QueuedDelivery.holding("main", envelope, created_at=moment(6), available_at=moment(6)).save()
    InboxEntry.objects.create(fingerprint="f", handler="shop.ship", key="k1", state="processed", **stamp)
    InboxEntry.objects.update(first_seen_at=moment(7))
    Derivation.objects.create(
        asset="shop.photo", source_pk="1", key="k", recipe="thumb", version=1, state="failed", reason="too large",
        queued_at=moment(1), finished_at=moment(8), duration_ms=100, **stamp,
    )  # fmt: skip
    Tombstone.objects.create(profile="hot", key="a.txt", origin="x", created_at=moment(9), **stamp)


@pytest.fixture
def staff(client: Client) -> Callable[..., Client]:
    """Log in a member of staff with these permissions; ``None`` stands for seeing everything."""

    def log_in(*codenames: str | None) -> Client:
        user = User.objects.create_user("ann", is_staff=True)
        everything = Permission.objects.filter(codename__startswith="view_")
        user.user_permissions.set(everything if None in codenames else everything.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return log_in


def url(correlation_id: str = STORY) -> str:
    return reverse("admin:koan_core_trail", args=[correlation_id])


def titles(html: str) -> list[str]:
    found = re.findall(r'class="koan-title">.*?<(?:a|b)[^>]*>([^<]*)<', html, re.DOTALL)
    return [text.strip() for text in found]


class TestPage:
    def test_every_app_tells_its_part_in_the_order_of_time(self, staff: Callable[..., Client]) -> None:
        story()
        html = staff(None).get(url()).text
        assert titles(html) == [
            "POST /pay",
            "order.paid",
            "order.paid by shop.ship",
            "order.paid",
            "dead letter of shipping: order.paid",
            "order.paid waits in the outbox",
            "order.paid waits for the group shipping",
            "claimed for shop.ship",
            "thumb of shop.photo 1",
            "hot: a.txt waits to be removed",
        ]
        for told in ("took 500 ms", "attempt 2", "no shelf", "host:2:worker", "ann, ", "+2.00 s", "9.00 s"):
            assert told in html, told
        assert html.count("koan-troubled") == 3

    def test_each_step_leads_to_its_record(self, staff: Callable[..., Client]) -> None:
        story()
        client = staff(None)
        links = re.findall(r'<p class="koan-title">.*?href="([^"]+)"', client.get(url()).text, re.DOTALL)
        assert len(set(links)) == 10
        assert {client.get(link).status_code for link in links} == {200}

    def test_a_bar_stands_where_the_step_was(self, staff: Callable[..., Client]) -> None:
        request_event()
        message(10, "handled", duration_ms=5000.0)
        bars = re.findall(r'<rect x="([\d.]+)" width="([\d.]+)"', staff(None).get(url()).text)
        assert [(float(x), float(width)) for x, width in bars] == [(0.0, 6.0), (500.0, 500.0)]

    def test_it_carries_no_inline_script_or_style(self, staff: Callable[..., Client]) -> None:
        story()
        client = staff(None)
        for address in (url(), reverse("admin:koan_core_trail_changelist")):
            body = client.get(address).text.partition('class="koan-trail"')[2].partition("</main>")[0]
            assert body
            assert not re.search(r"<script|<style|style=|\son[a-z]+=", body)

    def test_what_a_stranger_wrote_is_escaped(self, staff: Callable[..., Client]) -> None:
        message(1, alias="<script>alert(1)</script>", detail="<img src=x>")
        html = staff(None).get(url()).text
        assert "<script>alert" not in html
        assert "<img src=x>" not in html

    @pytest.mark.parametrize("identifier", ["a/b", "a?b#c", "ü", "a b", "%2e%2e", "x" * 128])
    def test_any_id_has_its_page(self, staff: Callable[..., Client], identifier: str) -> None:
        message(1, correlation_id=identifier)
        assert titles(staff(None).get(url(identifier)).text) == ["order.paid"]

    def test_an_unknown_id_is_not_found(self, staff: Callable[..., Client]) -> None:
        answer = staff(None).get(url("nothing"))
        assert answer.status_code == 404
        assert "Nothing that you may see has this id." in answer.text


class TestPermission:
    def test_without_it_there_is_no_page(self, staff: Callable[..., Client]) -> None:
        story()
        client = staff("view_auditevent", "view_messageevent")
        assert client.get(url()).status_code == 403
        assert client.get(url(), {"format": "json"}).status_code == 403

    def test_rows_of_a_model_that_somebody_may_not_see_are_left_out_and_named(
        self, staff: Callable[..., Client]
    ) -> None:
        story()
        client = staff("view_trail", "view_messageevent")
        html = client.get(url()).text
        assert len(titles(html)) == 3
        assert "dead letters" in html.partition("koan-trail-hidden")[2]
        steps = json.loads(b"".join(client.get(url(), {"format": "json"})))["steps"]  # type: ignore[call-overload]
        assert {step["record"].partition(":")[0] for step in steps} == {"koan_messaging.messageevent"}


class TestTenant:
    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        message(1, tenant="acme", alias="of.acme")
        Tombstone.objects.create(profile="hot", key="a.txt", origin="x", correlation_id=STORY, created_at=moment(2))

    def told(self, name: str | None) -> list[str]:
        return [each.step.title for each in trail.page(STORY, Reader(lambda model: True, name)).steps]

    def test_its_own_story_is_told_whole(self) -> None:
        assert self.told("acme") == ["of.acme", "hot: a.txt waits to be removed"]

    def test_of_a_story_that_others_share_it_sees_its_own_rows_alone(self) -> None:
        message(3, tenant="other", alias="of.other")
        assert self.told("acme") == ["of.acme"]
        assert self.told("other") == ["of.other"], "whoever borrows an id learns nothing by it"
        assert self.told("third") == []
        assert len(self.told(None)) == 3

    def test_the_page_and_the_search_go_by_the_tenant_in_force(self, rf: Any) -> None:
        request = rf.get("/", {"q": "m1"})
        request.user = User.objects.create_superuser("root")
        page = screen.TrailAdmin(screen.Trail, admin.site)
        with tenant.use("other"):
            answer = page.changelist_view(request)
            assert answer.status_code == 200, "to the other tenant there is no such message"
        with tenant.use("acme"):
            assert page.changelist_view(request).headers["Location"] == url()


class TestPaging:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=14), st.integers(1, 5))
    def test_pages_show_every_step_once_and_in_order_though_many_share_a_moment(
        self, rows: list[tuple[int, bool]], limit: int
    ) -> None:
        MessageEvent.objects.all().delete()
        Tombstone.objects.all().delete()
        for seconds, is_message in rows:
            if is_message:
                message(seconds)
            else:
                Tombstone.objects.create(
                    profile="hot", key="k", origin="x", correlation_id=STORY, created_at=moment(seconds)
                )
        told, after, pages = [], None, 0
        while True:
            page = trail.page(STORY, EVERYTHING, after=after, limit=limit)
            assert len(page.steps) <= limit
            told += page.steps
            pages += 1
            if page.next is None:
                break
            after = Cursor.parse(str(page.next))
        assert len({(each.source, each.row.pk) for each in told}) == len(told) == len(rows)
        assert [each.cursor for each in told] == sorted(each.cursor for each in told)
        assert pages == max(1, -(-len(rows) // limit))

    def test_a_long_story_costs_no_more_than_a_short_one(self, django_assert_num_queries: Any) -> None:
        message(0)
        with django_assert_num_queries(len(trail.sources)):
            trail.page(STORY, EVERYTHING)
        MessageEvent.objects.bulk_create(
            [MessageEvent(kind="sent", alias="a", bus="b", message_id=str(n), correlation_id=STORY) for n in range(600)]
        )
        with django_assert_num_queries(len(trail.sources)):
            assert len(trail.page(STORY, EVERYTHING).steps) == trail.PAGE

    def test_the_page_leads_to_the_next_and_back(
        self, staff: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        story()
        monkeypatch.setattr(trail.page, "__kwdefaults__", {"after": None, "limit": 4})
        client, address, seen = staff(None), "", list[str]()
        for _ in range(3):
            html = client.get(url() + address).text
            seen += titles(html)
            following = re.search(r'href="(\?after=[^"]+)"', html)
            address = following[1] if following else ""
        assert (len(seen), address) == (10, "")
        assert "Back to the beginning" in html

    @pytest.mark.parametrize(
        "text",
        [
            *("", "x", "~~", "2026-11-25~a~1", "2026-11-25T12:00:00+00:00~a~x", "9~9~9"),
            pytest.param(f"2026-11-25T12:00:00+00:00~koan_core.audit~{'9' * 5000}", id="digits"),
            pytest.param("2026-11-25T12:00:00+00:00~koan_core.audit~9999999999999999999", id="beyond-64-bits"),
            *("9999-12-31T23:59:59-23:00~x~1", "0001-01-01T00:00:00+23:00~x~1"),
        ],
    )
    def test_a_place_that_is_none_is_the_beginning(self, staff: Callable[..., Client], text: str) -> None:
        message(1)
        assert Cursor.parse(text) is None
        assert titles(staff(None).get(url(), {"after": text}).text) == ["order.paid"]


class TestExport:
    @pytest.fixture(autouse=True)
    def short_pages(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(trail.page, "__kwdefaults__", {"after": None, "limit": 3})
        return None

    def test_json_holds_the_whole_story(self, staff: Callable[..., Client]) -> None:
        story()
        told = json.loads(b"".join(staff(None).get(url(), {"format": "json"})))  # type: ignore[call-overload]
        assert (told["correlation_id"], len(told["steps"])) == (STORY, 10)
        handled = told["steps"][2]
        assert (handled["state"], handled["duration_ms"], handled["who"]) == ("handled", 500.0, "host:2:worker")
        assert handled["record"].startswith("koan_messaging.messageevent:")

    def test_csv_too(self, staff: Callable[..., Client]) -> None:
        story()
        message(20, alias="=cmd|x")
        text = b"".join(staff(None).get(url(), {"format": "csv"})).decode()  # type: ignore[call-overload]
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == 11
        assert rows[-1]["title"] == "'=cmd|x"


class TestSearch:
    def find(self, client: Client, text: str) -> Any:
        return client.get(reverse("admin:koan_core_trail_changelist"), {"q": text})

    @pytest.mark.parametrize("text", [STORY, f"  {STORY} ", "m1", "k1", "a.txt"])
    def test_a_story_is_found_by_its_id_and_by_those_of_its_records(
        self, staff: Callable[..., Client], text: str
    ) -> None:
        story()
        assert self.find(staff(None), text).headers["Location"] == url()

    def test_a_run_by_its_own(self, staff: Callable[..., Client]) -> None:
        scheduling = pytest.importorskip("koan_django.scheduling.models", reason="Django is too new for beat")
        task = scheduling.ScheduledTask.objects.create(name="t", trigger="every", interval=timedelta(hours=1))
        run = scheduling.TaskRun.objects.create(
            task=task, trigger="manual", planned_at=BEGAN, correlation_id=STORY, state="failed", error="broke",
            duration=timedelta(seconds=2),
        )  # fmt: skip
        client = staff(None)
        assert self.find(client, str(run.uuid)).headers["Location"] == url()
        html = client.get(url()).text
        assert titles(html) == ["run of t"]
        assert "took 2.00 s" in html

    @pytest.mark.parametrize("text", ["<b>", "5f0f1f4e-6a0c-4f53-9a53-0d0f6a1f2c11", "\x00", "x" * 400])
    def test_what_nobody_has_is_said_to_be_nowhere(self, staff: Callable[..., Client], text: str) -> None:
        html = self.find(staff(None), text).text
        assert "Nothing here has the id" in html
        assert "<b>" not in html.partition("koan-trail-none")[2].partition("</p>")[0]

    def test_nothing_is_found_that_somebody_may_not_see(self, staff: Callable[..., Client]) -> None:
        message(1)
        assert "Nothing here has the id" in self.find(staff("view_trail"), STORY).text

    def test_the_newest_requests_stand_below(self, staff: Callable[..., Client]) -> None:
        request_event()
        html = staff(None).get(reverse("admin:koan_core_trail_changelist")).text
        assert f'href="{url()}"' in html
        assert "POST /pay" in html


WITH_STORY = [
    (model, registered)
    for model, registered in admin.site._registry.items()
    if model._meta.managed
    and model.__module__.startswith("koan_django.")
    and (any(field.name == "correlation_id" for field in model._meta.fields) or hasattr(model, "envelope"))
]


def test_the_screens_below_are_all_that_there_are() -> None:
    assert len(WITH_STORY) >= 8


@pytest.mark.parametrize(("model", "registered"), WITH_STORY, ids=lambda each: getattr(each, "__name__", ""))
def test_every_record_leads_to_its_trail(admin_client: Client, model: type[models.Model], registered: Any) -> None:
    from tests.admin.test_permissions import filled

    row = filled(model)
    kept = "headers" if hasattr(model, "envelope") else "correlation_id"
    value: Any = {"koan-correlation": STORY} if kept == "headers" else STORY
    names = {kept: value}
    if any(field.name == "correlation_id" for field in model._meta.fields):
        names["correlation_id"] = STORY
    models.QuerySet(model).filter(pk=row.pk).update(**names)
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk])
    assert f'href="{url()}"' in admin_client.get(address).text
