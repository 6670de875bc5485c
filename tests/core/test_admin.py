"""The admin kit: operations ask for their permission, leave a log entry each, and ask before they destroy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from koan_django.core import health, redaction
from koan_django.core.admin.kit import badge, operation, pretty_json
from koan_django.core.admin.records import LeaseAdmin
from koan_django.core.exceptions import PermanentError
from koan_django.core.models import HealthFact, Lease
from koan_django.core.overview import Line, Panel, panels

pytestmark = [pytest.mark.database, pytest.mark.django_db]

LEASES = "/admin/koan_core/lease/"
Login = Callable[..., Client]


@pytest.fixture
def login(client: Client) -> Login:
    """Log in as a member of staff who holds the given permissions."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="koan_core", codename__in=codenames)
        )
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def leases() -> list[Lease]:
    until = timezone.now() + timedelta(hours=1)
    return [Lease.objects.create(name=f"lease-{n}", lease_owner="host:1", lease_until=until) for n in range(3)]


def post(client: Client, leases: list[Lease], **data: str) -> str:
    """Choose the action ``release`` for ``leases``; return the page that follows."""
    chosen = {"action": "release", ACTION_CHECKBOX_NAME: [str(lease.pk) for lease in leases], **data}
    return client.post(LEASES, chosen, follow=True).text


def held() -> list[str]:
    return list(Lease.objects.exclude(lease_until=None).values_list("name", flat=True))


class TestOperation:
    def test_who_may_only_look_is_not_offered_it_and_cannot_force_it(self, login: Login, leases: list[Lease]) -> None:
        client = login("view_lease")
        assert "Release selected leases" not in client.get(LEASES).text
        for confirmed in ({}, {"confirmed": "yes"}):
            post(client, leases, **confirmed)
        assert len(held()) == 3
        assert not LogEntry.objects.exists()

    def test_it_asks_before_it_destroys(self, login: Login, leases: list[Lease]) -> None:
        client = login("view_lease", "release_lease")
        assert "Release selected leases" in client.get(LEASES).text
        page = post(client, leases[:2])
        assert "This touches 2 rows and cannot be undone" in page
        assert "lease-0" in page
        assert "lease-2" not in page
        assert len(held()) == 3
        assert not LogEntry.objects.exists()

    def test_confirmed_it_leaves_a_log_entry_for_each_object(self, login: Login, leases: list[Lease]) -> None:
        page = post(login("view_lease", "release_lease"), leases[:2], confirmed="yes")
        assert "Release selected leases: 2 done." in page
        assert held() == ["lease-2"]
        entries = LogEntry.objects.order_by("object_repr")
        assert [(entry.object_repr, entry.change_message) for entry in entries] == [
            ("lease-0", "released from host:1"),
            ("lease-1", "released from host:1"),
        ]

    def test_the_confirmation_page_carries_every_chosen_row(self, login: Login) -> None:
        until = timezone.now() + timedelta(hours=1)
        many = Lease.objects.bulk_create([Lease(name=f"many-{n:03}", lease_until=until) for n in range(150)])
        client = login("view_lease", "release_lease")
        page = client.post(LEASES, {"action": "release", ACTION_CHECKBOX_NAME: [lease.pk for lease in many]})
        assert "This touches 150 rows" in page.text
        assert page.text.count(f'name="{ACTION_CHECKBOX_NAME}"') == 150
        assert "many-149" not in page.text, "the list that is shown is cut, what is sent is not"

    def test_one_that_is_refused_does_not_stop_the_others(
        self, login: Login, leases: list[Lease], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redaction.register_value("correct-horse")

        def release(self: LeaseAdmin, request: object, lease: Lease) -> str:
            if lease.name == "lease-1":
                raise PermanentError("lease-1 refuses", why="it is at correct-horse")
            Lease.objects.filter(pk=lease.pk).update(lease_until=None)
            return "released at correct-horse"

        action = operation(permission="release", description="Release selected leases")(release)
        monkeypatch.setattr(LeaseAdmin, "release", action)
        try:
            page = post(login("view_lease", "release_lease"), leases)
        finally:
            redaction.forget_value("correct-horse")
        assert "lease-1 refuses: it is at ********" in page
        assert "Release selected leases: 2 done." in page
        assert held() == ["lease-1"]
        assert {entry.change_message for entry in LogEntry.objects.all()} == {"released at ********"}

    def test_custom_permissions_do_not_mix(self, login: Login, leases: list[Lease]) -> None:
        client = login("view_lease", "change_lease", "delete_lease", "add_lease", "view_overview")
        post(client, leases, confirmed="yes")
        assert len(held()) == 3


class TestRecords:
    def test_nobody_adds_changes_or_deletes_what_code_writes(self, admin_client: Client, leases: list[Lease]) -> None:
        change = reverse("admin:koan_core_lease_change", args=[leases[0].pk])
        assert admin_client.get(f"{LEASES}add/").status_code == 403
        assert admin_client.get(change).status_code == 200
        assert admin_client.post(change, {"name": "x"}).status_code == 403
        assert admin_client.post(change.replace("change", "delete"), {"post": "yes"}).status_code == 403
        admin_client.post(LEASES, {"action": "delete_selected", ACTION_CHECKBOX_NAME: [leases[0].pk], "post": "yes"})
        assert Lease.objects.filter(name="lease-0").exists()

    def test_a_fact_is_shown_with_what_it_says_now(self, admin_client: Client) -> None:
        health.report("broker", "healthy", data={"url": "amqp://u:hunter2@h", "password": "p"})
        HealthFact.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        list_page = admin_client.get("/admin/koan_core/healthfact/").text
        assert '<span class="koan-badge koan-unknown">unknown</span>' in list_page
        page = admin_client.get(reverse("admin:koan_core_healthfact_change", args=[HealthFact.objects.get().pk])).text
        assert "amqp://u:********@h" in page
        assert "hunter2" not in page

    @pytest.mark.parametrize("page", ["healthfact", "lease", "overview"])
    def test_every_list_asks_for_the_permission_to_see_it(self, login: Login, page: str) -> None:
        assert login().get(f"/admin/koan_core/{page}/").status_code == 403


class Named:
    """An object whose text holds a secret."""

    def __str__(self) -> str:
        return "at correct-horse"


class TestShown:
    def test_json_is_redacted_sorted_escaped_and_cut(self) -> None:
        redaction.register_value("correct-horse")
        try:
            shown = pretty_json({"b": "<b>", "a": {"password": "p"}, "c": ["x correct-horse"], "d": Named()})
        finally:
            redaction.forget_value("correct-horse")
        assert "correct-horse" not in shown
        assert "&lt;b&gt;" in shown
        assert shown.index("&quot;a&quot;") < shown.index("&quot;b&quot;")
        assert "********" in shown
        assert pretty_json(["x" * 10000]).endswith("… cut</pre>")
        assert len(pretty_json(["x" * 10000])) < 9000

    def test_json_holds_what_is_no_json_too(self) -> None:
        assert "2026-01-02" in pretty_json({"at": timezone.datetime(2026, 1, 2)})  # type: ignore[attr-defined]

    def test_a_badge_is_escaped(self) -> None:
        assert badge("healthy", "<x>") == '<span class="koan-badge koan-healthy">&lt;x&gt;</span>'


class TestOverview:
    @pytest.fixture
    def panel(self) -> object:
        def broken() -> list[Line]:
            raise RuntimeError("amqp://u:hunter2@h is gone")

        panels.add("test.first", Panel("First things", lambda: [Line("queues", "<3>", "healthy", "/q")], 1), origin="1")
        panels.add("test.broken", Panel("Broken things", broken, 2), origin="2")
        panels.add("test.last", Panel("Last things", lambda: [], 99), origin="3")
        yield
        for name in ("test.first", "test.broken", "test.last"):
            panels.remove(name)

    def test_it_shows_every_panel_in_order_and_a_broken_one_hides_no_other(self, login: Login, panel: object) -> None:
        health.report("broker", "degraded", "slow")
        page = login("view_overview", "view_healthfact").get("/admin/koan_core/overview/").text
        titles = [page.index(title) for title in ("Health", "First things", "Broken things", "Last things")]
        assert titles == sorted(titles)
        assert '<a href="/q">queues</a>' in page
        assert "&lt;3&gt;" in page
        assert "amqp://u:********@h is gone" in page
        assert "hunter2" not in page
        assert "Nothing to report." in page
        assert '<span class="koan-badge koan-degraded">degraded</span>' in page

    def test_it_carries_no_inline_script_or_style(self, admin_client: Client, panel: object) -> None:
        page = admin_client.get("/admin/koan_core/overview/").text
        body = page.partition('class="koan-overview"')[2]
        assert "<script" not in body.partition("</div>")[0]
        assert "style=" not in body
        assert "onclick=" not in body

    def test_it_stands_in_the_index_for_those_who_may_see_it(self, login: Login) -> None:
        assert reverse("admin:koan_core_overview_changelist") in login("view_overview").get("/admin/").text

    def test_it_does_not_stand_there_for_others(self, login: Login) -> None:
        assert reverse("admin:koan_core_overview_changelist") not in login("view_lease").get("/admin/").text

    def test_it_can_be_neither_added_nor_changed(self, admin_client: Client) -> None:
        assert admin_client.get("/admin/koan_core/overview/add/").status_code == 403

    def test_it_works_in_another_language(self, admin_client: Client) -> None:
        with override("de"):
            assert admin_client.get("/admin/koan_core/overview/").status_code == 200
