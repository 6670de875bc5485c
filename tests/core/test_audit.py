"""Recording: in the caller's transaction, by whom, of what, and never a secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koan_django.core import audit, redaction
from koan_django.core.audit.exceptions import AppendOnlyError
from koan_django.core.audit.recording import bounded
from koan_django.core.commands import AuditedCommand
from koan_django.core.context import correlation, tenant
from koan_django.core.models import AuditEvent, Lease
from koan_django.core.process import identity
from koan_django.testing import override_koan

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def only() -> AuditEvent:
    return AuditEvent.objects.get()


class TestRecord:
    def test_it_says_who_did_what_to_which_row_and_in_which_story(self) -> None:
        lease = Lease.objects.create(name="one")
        with correlation.use("story-1"), tenant.use("acme"), audit.acting_as(audit.Actor("ann", "auth.user:7")):
            audit.record("leases.look", lease, data={"deep": {"number": 1.5, "list": [1, None, True]}})
        found = only()
        assert (found.actor, found.actor_reference) == ("ann", "auth.user:7")
        assert (found.object_type, found.object_id, found.object_text) == ("koan_core.lease", str(lease.pk), "one")
        assert (found.correlation_id, found.tenant, found.process) == ("story-1", "acme", identity())
        assert found.data == {"deep": {"number": 1.5, "list": [1, None, True]}}
        assert found.seal is None

    def test_it_is_one_plain_insert(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(1) as captured:
            audit.record("orders.refund", audit.Reference("order", "7"))
        assert captured.captured_queries[0]["sql"].startswith("INSERT")

    def test_it_is_rolled_back_with_the_deed(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            audit.record("orders.refund")
            1 / 0  # noqa: B018
        assert not AuditEvent.objects.exists()

    def test_without_anybody_the_process_did_it(self) -> None:
        audit.record("orders.refund")
        assert only().actor == identity()

    def test_no_secret_gets_in(self) -> None:
        redaction.register_value("correct-horse")
        try:
            thing = audit.Reference("url", "at correct-horse", "is correct-horse")
            audit.record("x.y", thing, actor=audit.Actor("correct-horse"), data={"password": "p", "a": "correct-horse"})
        finally:
            redaction.forget_value("correct-horse")
        assert "correct-horse" not in json.dumps(AuditEvent.objects.values().get(), default=str)
        assert only().data == {"password": "********", "a": "********"}

    def test_what_is_too_large_is_left_out_and_says_so(self) -> None:
        audit.record("x.y", data={"much": "x" * 10_000})
        assert only().data == {"truncated": "10012 bytes", "keys": ["much"]}

    def test_what_the_options_exclude_is_not_recorded_but_for_what_is_done_to_the_audit(self) -> None:
        with override_koan(CORE={"AUDIT": {"EXCLUDE": ["storage.*", "*"]}}):
            assert audit.record("storage.move") is None
            assert audit.record("audit.export") is not None
        assert [event.action for event in AuditEvent.objects.all()] == ["audit.export"]

    def test_it_can_be_awaited(self) -> None:
        async_to_sync(audit.arecord)("x.y", data={"a": 1})
        assert only().data == {"a": 1}

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=5,
            ),
            max_size=3,
        )
    )
    def test_whatever_is_given_every_database_takes_it_and_gives_it_back_the_same_each_time(self, data: Any) -> None:
        with transaction.atomic():
            audit.record("x.y", data=data)
            first, second = (AuditEvent.objects.values_list("data", flat=True).latest("id") for _ in range(2))
            assert repr(first) == repr(second)
            transaction.set_rollback(True)
        assert json.loads(json.dumps(bounded(data), allow_nan=False)) == bounded(data)


class TestAppendOnly:
    def test_code_cannot_change_or_delete_a_row(self) -> None:
        audit.record("x.y")
        event = only()
        for refused in (
            lambda: event.save(),
            lambda: event.delete(),
            lambda: AuditEvent.objects.update(actor="mallory"),
            lambda: AuditEvent.objects.all().delete(),
        ):
            with pytest.raises(AppendOnlyError):
                refused()
        assert AuditEvent.objects.count() == 1


def sending(request: HttpRequest, token: str = "") -> HttpResponse:
    audit.touch()
    return HttpResponse(status=202)


def reading(request: HttpRequest) -> HttpResponse:
    return HttpResponse("read")


def losing(request: HttpRequest) -> HttpResponse:
    audit.record("orders.refund")
    raise ZeroDivisionError


def belonging(request: HttpRequest) -> HttpResponse:
    with tenant.use("acme"):
        audit.touch()
    return HttpResponse("done")


async def awaiting(request: HttpRequest) -> HttpResponse:
    audit.touch()
    return HttpResponse("done")


urlpatterns = [
    path("send", sending, name="send"),
    path("read", reading),
    path("lose", losing),
    path("belong", belonging),
    path("await", awaiting),
    path("reset/<str:token>", sending),
]


@pytest.mark.urls(__name__)
class TestRequests:
    def test_one_that_left_something_is_recorded_as_the_beginning_of_its_trail(self, client: Client) -> None:
        user = User.objects.create_user("ann")
        client.force_login(user)
        client.post("/send?token=t", headers={"X-Correlation-ID": "story-1"})
        found = only()
        assert (found.action, found.object_text, found.correlation_id) == ("http.request", "POST /send", "story-1")
        assert (found.actor, found.actor_reference) == ("ann", f"auth.user:{user.pk}")
        assert (found.data["status"], found.data["view"]) == (202, "send")
        assert found.data["duration_ms"] > 0

    def test_of_the_address_the_pattern_is_kept(self, client: Client) -> None:
        client.post("/reset/battery-staple?next=correct-horse")
        found = AuditEvent.objects.values().get()
        assert found["object_text"] == "POST /reset/<str:token>"
        assert "staple" not in str(found)
        assert "horse" not in str(found)

    def test_one_that_only_read_costs_nothing(self, client: Client, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            client.get("/read")

    def test_nobody_is_anonymous(self, client: Client) -> None:
        client.post("/send")
        assert only().actor == "anonymous"

    def test_one_that_failed_is_recorded_with_its_status(self, client: Client) -> None:
        client.raise_request_exception = False
        client.post("/lose")
        events = {event.action: event for event in AuditEvent.objects.all()}
        assert events["http.request"].data["status"] == 500
        assert events["http.request"].correlation_id == events["orders.refund"].correlation_id
        assert events["http.request"].at <= events["orders.refund"].at

    def test_it_belongs_to_the_tenant_in_whose_name_it_acted(self, client: Client) -> None:
        client.post("/belong")
        assert only().tenant == "acme"

    def test_it_can_be_turned_off(self, client: Client) -> None:
        with override_koan(CORE={"AUDIT": {"REQUESTS": False}}):
            client.post("/send")
        assert not AuditEvent.objects.exists()

    def test_an_asynchronous_view_is_recorded_too(self) -> None:
        answer = async_to_sync(AsyncClient().get)("/await")
        assert answer.status_code == 200
        assert only().object_text == "GET /await"


class TestCommands:
    class Command(AuditedCommand):
        fails = False

        def add_arguments(self, parser: Any) -> None:
            parser.add_argument("--password", default="")
            parser.add_argument("--read", action="store_true")

        def is_audited(self, options: dict[str, Any]) -> bool:
            return not options["read"]

        def handle(self, *args: Any, **options: Any) -> None:
            audit.record("inner.deed")
            if self.fails:
                raise SystemExit(3)

    def test_who_ran_it_and_what_it_did_are_one_story(self) -> None:
        call_command(self.Command(), password="hunter22")
        outer, inner = AuditEvent.objects.order_by("-id")
        assert (outer.action, outer.object_type) == ("command.run", "command")
        assert outer.data["password"] == "********"
        assert "@" in outer.actor
        assert (inner.actor, inner.correlation_id) == (outer.actor, outer.correlation_id)

    def test_one_that_fails_is_recorded_too(self) -> None:
        command = self.Command()
        command.fails = True
        with pytest.raises(SystemExit):
            call_command(command)
        assert AuditEvent.objects.get(action="command.run").data["error"] == "SystemExit: 3"

    def test_one_that_reads_is_not(self) -> None:
        call_command(self.Command(), read=True)
        assert [event.action for event in AuditEvent.objects.all()] == ["inner.deed"]


class TestAdmin:
    @pytest.fixture
    def staff(self, client: Client) -> Callable[..., Client]:
        def log_in(*codenames: str) -> Client:
            user = User.objects.create_user("ann", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
            client.force_login(user)
            return client

        return log_in

    def test_an_operation_leaves_one_event_for_each_object(self, staff: Callable[..., Client]) -> None:
        leases = [Lease.objects.create(name=name, lease_owner="host:1") for name in ("a", "b")]
        chosen = {"action": "release", ACTION_CHECKBOX_NAME: [lease.pk for lease in leases], "confirmed": "yes"}
        staff("view_lease", "release_lease").post("/admin/koan_core/lease/", chosen)
        events = AuditEvent.objects.filter(action="admin.release").order_by("object_text")
        assert [(event.actor, event.object_text) for event in events] == [("ann", "a"), ("ann", "b")]
        assert events[0].data == {"message": "released from host:1"}
        request = AuditEvent.objects.get(action="http.request")
        assert {event.correlation_id for event in events} == {request.correlation_id}

    def test_events_are_exported_by_those_who_may(self, staff: Callable[..., Client]) -> None:
        audit.record("x.y", audit.Reference("thing", "=1+1"), data={"a": "ü"})
        chosen = {"action": "export_csv", ACTION_CHECKBOX_NAME: [only().pk]}
        client = staff("view_auditevent")
        assert "Content-Disposition" not in client.post("/admin/koan_core/auditevent/", chosen).headers
        User.objects.get().user_permissions.add(Permission.objects.get(codename="export_auditevent"))
        answer = client.post("/admin/koan_core/auditevent/", chosen)
        text = b"".join(answer).decode()  # type: ignore[call-overload]  # a streaming answer
        assert "'=1+1" in text
        assert '{""a"": ""ü""}' in text
        assert AuditEvent.objects.get(action="audit.export").data["events"] == 1
        answer = client.post("/admin/koan_core/auditevent/", {**chosen, "action": "export_jsonl"})
        assert json.loads(b"".join(answer))["object_id"] == "=1+1"  # type: ignore[call-overload]

    def test_a_page_shows_an_event_and_no_way_to_change_it(self, admin_client: Client) -> None:
        audit.record("x.y", data={"a": "<b>"})
        page = admin_client.get(f"/admin/koan_core/auditevent/{only().pk}/change/")
        assert "&lt;b&gt;" in page.text
        assert "not sealed yet" in page.text
        assert "Save" not in page.text

    def test_the_overview_tells_what_waits_for_a_seal(self, admin_client: Client) -> None:
        audit.record("x.y")
        assert "Events without a seal" in admin_client.get("/admin/koan_core/overview/").text


def test_the_columns_are_bounded_on_every_database() -> None:
    long = "x" * 5000
    audit.record(long, audit.Reference(long, long, long), actor=audit.Actor(long, long))
    assert len(only().object_id) == 255
    assert connection.vendor  # the insert above is the proof: PostgreSQL refuses what is too long
