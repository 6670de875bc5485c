"""Facts: what was chosen and why, as this process knows it, as rows for the others, in the log and on a page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.core import boot, facts, process, redaction
from koan_django.core.facts import Alternative, Fact
from koan_django.core.models import ProcessFact
from koan_django.testing import override_koan
from tests.core.test_health import database_down

pytestmark = [pytest.mark.database, pytest.mark.django_db]

BUS = Fact("bus", "rabbit", "it answered", (Alternative("local", "connection refused"),))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = set(facts._sources.names())
    facts._published = (0, ())
    yield
    facts.forget("bus")
    for name in set(facts._sources.names()) - before:
        facts._sources.remove(name)
    facts._published = (0, ())


def subjects() -> dict[str, Fact]:
    return {fact.subject: fact for fact in facts.own()}


class TestOwn:
    def test_zero_configuration_explains_itself(self, settings: Any) -> None:
        settings.KOAN = {}
        found = subjects()
        assert found["core.environment"] == Fact("core.environment", "none", "no environment is named")
        assert found["core.database"].selection in ("sqlite", "postgresql", "mysql")
        assert found["storage.default"].selection == "default"
        assert found["storage.profile.default"].reason == "no PROFILES are set"
        assert found["secrets.chain"].reason == "no CHAIN is set"
        assert {each.name for each in found["secrets.chain"].alternatives} == {"file", "memory"}

    def test_what_was_chosen_names_the_setting_that_chose_it(self, monkeypatch: Any) -> None:
        monkeypatch.setenv("KOAN_ENVIRONMENT", "staging")
        with override_koan(SECRETS={"CHAIN": ["env"]}):
            found = subjects()
        assert found["core.environment"] == Fact("core.environment", "staging", "KOAN_ENVIRONMENT")
        assert found["secrets.chain"].reason == "KOAN['SECRETS']['CHAIN']"
        assert found["storage.default"].alternatives == (Alternative("cold", "code must name it"),)

    def test_a_recorded_choice_stands_before_that_of_a_source(self) -> None:
        facts.source("x")(lambda: [Fact("bus", "none")])
        facts.record(BUS)
        assert subjects()["bus"] == BUS
        facts.forget("bus")
        assert subjects()["bus"] == Fact("bus", "none")

    def test_a_source_that_fails_hides_no_other(self) -> None:
        @facts.source("broken")
        def broken() -> list[Fact]:
            raise RuntimeError("amqp://u:hunter22@h is odd")

        found = subjects()
        assert found["broken"] == Fact("broken", "unknown", "RuntimeError: amqp://u:********@h is odd")
        assert "core.version" in found

    def test_no_secret_gets_in(self) -> None:
        redaction.register_value("s3cr3t-value")
        try:
            facts.record(Fact("bus", "s3cr3t-value", "by s3cr3t-value", (Alternative("s3cr3t-value", "s3cr3t-value"),)))
            assert "s3cr3t" not in repr(facts.own())
        finally:
            redaction.forget_value("s3cr3t-value")

    def test_asking_opens_no_database(self, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            facts.own()


class TestRows:
    def test_other_processes_read_what_this_one_publishes(self) -> None:
        facts.record(BUS)
        facts.publish()
        assert BUS in facts.of_all()[process.identity()]
        assert {fact.subject for fact in facts.own()} == set(ProcessFact.objects.values_list("subject", flat=True))

    def test_what_is_known_already_costs_one_update(self) -> None:
        facts.publish()
        ProcessFact.objects.update(expires_at=timezone.now())
        with CaptureQueriesContext(connection) as queries:
            facts.publish()
        assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]
        assert process.identity() in facts.of_all()

    def test_since_tells_how_long_a_choice_has_stood(self) -> None:
        facts.record(BUS)
        facts.publish()
        old = timezone.now() - timedelta(hours=1)
        ProcessFact.objects.update(since=old)
        facts.record(Fact("bus", "rabbit", "it answered again"))
        facts.publish()
        row = ProcessFact.objects.get(subject="bus")
        assert (row.since, row.reason, row.alternatives) == (old, "it answered again", [])
        facts.record(Fact("bus", "local"))
        facts.publish()
        assert ProcessFact.objects.get(subject="bus").since > old

    def test_a_choice_that_is_gone_leaves_its_row(self) -> None:
        facts.record(BUS)
        facts.publish()
        facts.forget("bus")
        facts.publish()
        assert not ProcessFact.objects.filter(subject="bus").exists()

    def test_rows_that_somebody_deleted_are_written_again(self) -> None:
        facts.publish()
        ProcessFact.objects.all().delete()
        facts.publish()
        assert ProcessFact.objects.exists()

    def test_the_facts_of_a_process_that_died_expire_and_go(self) -> None:
        facts.publish()
        ProcessFact.objects.update(reporter="other:1:worker")
        assert "other:1:worker" in facts.of_all()
        ProcessFact.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert "other:1:worker" not in facts.of_all()
        ProcessFact.objects.update(expires_at=timezone.now() - facts.REMEMBERED)
        facts._published = (0, ())
        facts.publish()
        assert not ProcessFact.objects.filter(reporter="other:1:worker").exists()

    def test_a_process_that_stops_takes_its_facts_back(self) -> None:
        facts.publish()
        facts.retract()
        assert not ProcessFact.objects.exists()


class TestBoot:
    def test_the_report_is_one_block(self, caplog: Any) -> None:
        facts.record(BUS)
        with caplog.at_level(logging.INFO, "koan_django"):
            boot.report()
        [record] = [each for each in caplog.records if each.name == "koan_django.core.boot"]
        lines = record.getMessage().splitlines()
        assert lines[0] == f"This is {process.identity()}"
        at = next(number for number, line in enumerate(lines) if line.startswith("  bus "))
        assert lines[at].split() == ["bus", "rabbit", "it", "answered"]
        assert lines[at + 1].strip() == "not local: connection refused"

    def test_a_web_process_reports_at_its_first_request_only(self, caplog: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(boot, "under_test", lambda: False)
        monkeypatch.setattr(boot, "_web", (0, 0.0))
        with caplog.at_level(logging.INFO, "koan_django.core.boot"):
            for _ in range(3):
                boot.visit()
        assert len(caplog.records) == 1
        assert process.identity() in facts.of_all()
        with CaptureQueriesContext(connection) as queries:
            boot.visit()
            assert len(queries) == 0
            monkeypatch.setattr(boot, "_web", (boot._web[0], 0.0))  # a minute later
            boot.visit()
        assert len(queries) == 1
        assert len(caplog.records) == 1

    def test_without_the_database_the_request_is_served_all_the_same(self, caplog: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(boot, "under_test", lambda: False)
        monkeypatch.setattr(boot, "_web", (0, 0.0))
        with database_down():
            boot.visit()
        assert "could not be published" in caplog.text

    def test_requests_of_tests_publish_nothing(self, client: Client) -> None:
        client.get("/health/live")
        assert not ProcessFact.objects.exists()


class TestPage:
    def test_it_is_for_staff(self, client: Client, django_user_model: Any) -> None:
        assert client.get("/koan/facts").status_code == 403
        client.force_login(django_user_model.objects.create_user("visitor"))
        assert client.get("/koan/facts").status_code == 403

    def test_json_has_the_facts_of_all(self, admin_client: Client) -> None:
        facts.record(BUS)
        facts.publish()
        ProcessFact.objects.update(reporter="other:1:worker")
        answer = admin_client.get("/koan/facts", headers={"accept": "application/json"})
        assert answer["Cache-Control"].startswith("max-age=0")
        found = answer.json()
        assert set(found["facts"]) == {"other:1:worker", process.identity()} == {"other:1:worker", found["process"]}
        for each in found["facts"].values():
            [bus] = [fact for fact in each if fact["subject"] == "bus"]
            assert bus["alternatives"] == [{"name": "local", "reason": "connection refused"}]
        assert admin_client.get("/koan/facts?format=json").json() == found

    def test_the_page_is_plain_and_escapes(self, admin_client: Client) -> None:
        facts.record(Fact("bus", "<b>", "because", (Alternative("local", "<i>"),)))
        page = admin_client.get("/koan/facts", headers={"accept": "text/html"}).text
        assert "<td>&lt;b&gt;</td>" in page
        assert "not local: &lt;i&gt;" in page
        assert "<script" not in page
        assert "style=" not in page

    def test_the_admin_lists_them(self, admin_client: Client, admin_user: User) -> None:
        facts.record(BUS)
        facts.publish()
        row = ProcessFact.objects.get(subject="bus")
        assert "rabbit" in admin_client.get("/admin/koan_core/processfact/?q=bus").text
        assert "connection refused" in admin_client.get(f"/admin/koan_core/processfact/{row.pk}/change/").text
