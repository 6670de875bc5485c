"""Health: facts that expire, what they amount to, and what load balancers and people are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connections
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import health, process, redaction
from koan_django.core.health import Finding, report, retract, summarise
from koan_django.core.models import HealthFact

pytestmark = [pytest.mark.database, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _probes() -> Iterator[None]:
    """Each test begins with empty answers and takes back its probes."""
    before = set(health._probes.names())
    health._cache.clear()
    yield
    for name in set(health._probes.names()) - before:
        health._probes.remove(name)
    health._cache.clear()


@contextmanager
def database_down() -> Iterator[None]:
    """Replace the default connection with one to a database that is not there."""
    before = connections["default"]
    gone: Any = connections.create_connection("default")
    gone.settings_dict = {**gone.settings_dict, "NAME": "/nowhere/at/all", "HOST": "127.0.0.1", "PORT": "1"}
    connections["default"] = gone
    try:
        with pytest.raises(DatabaseError):
            gone.ensure_connection()
        yield
    finally:
        connections["default"] = before


def grow_old(**filters: Any) -> None:
    """Let the facts have expired a second ago."""
    HealthFact.objects.filter(**filters).update(expires_at=timezone.now() - timedelta(seconds=1))


class TestFacts:
    def test_a_fact_is_one_row_per_name_and_process(self) -> None:
        report("broker", "healthy", "all fine", data={"queues": 3})
        first = HealthFact.objects.get()
        report("broker", "unhealthy", "gone", critical=True)
        fact = HealthFact.objects.get()
        assert (fact.pk, fact.status, fact.message, fact.critical, fact.data) == (
            first.pk,
            "unhealthy",
            "gone",
            True,
            {},
        )
        assert fact.reporter == process.identity()

    def test_since_tells_how_long_a_state_has_lasted(self) -> None:
        report("broker", "healthy")
        HealthFact.objects.update(since=timezone.now() - timedelta(hours=1))
        old = HealthFact.objects.get().since
        report("broker", "healthy", "again")
        assert HealthFact.objects.get().since == old
        report("broker", "degraded")
        assert HealthFact.objects.get().since > old

    @pytest.mark.parametrize(
        ("ttl", "kept"), [(0, 1), (30, 30), (3600, 900)], ids=["at least 1 s", "as asked", "at most 15 min"]
    )
    def test_it_counts_for_its_time(self, ttl: int, kept: int) -> None:
        report("broker", "healthy", ttl=timedelta(seconds=ttl))
        fact = HealthFact.objects.get()
        assert fact.expires_at - fact.reported_at == timedelta(seconds=kept)

    def test_secrets_and_size_are_kept_out(self) -> None:
        redaction.register_value("correct-horse")
        try:
            report("a", "healthy", "at correct-horse " + "x" * 5000, data={"password": "p", "url": "correct-horse"})
            report("b", "healthy", data={"x": "y" * 5000})
        finally:
            redaction.forget_value("correct-horse")
        a, b = HealthFact.objects.order_by("name")
        assert a.message.startswith("at ******** xxx")
        assert len(a.message) == health.MESSAGE_LENGTH
        assert a.data == {"password": "********", "url": "********"}
        assert b.data == {"truncated": "more than 4096 bytes"}

    def test_a_process_takes_back_what_it_said_and_nothing_else(self) -> None:
        for name in ("a", "b", "c"):
            report(name, "healthy")
        HealthFact.objects.filter(name="c").update(reporter="other:1:web")
        retract(["a"])
        assert sorted(HealthFact.objects.values_list("name", flat=True)) == ["b", "c"]
        retract()
        assert HealthFact.objects.get().name == "c"


class TestAggregate:
    def test_a_fact_that_expired_says_unknown_and_never_healthy(self) -> None:
        report("broker", "healthy", critical=True)
        assert health.aggregate().status == "healthy"
        grow_old()
        [found] = health.aggregate().findings
        assert found.status == "unknown"
        assert found.message.startswith(f"{process.identity()} has not reported since")
        assert health.aggregate().status == "unhealthy"

    def test_one_that_others_still_report_is_not_missed(self) -> None:
        report("broker", "healthy")
        HealthFact.objects.update(reporter="gone:1:worker")
        grow_old()
        report("broker", "degraded", "slow")
        assert [(found.status, found.message) for found in health.aggregate().findings] == [("degraded", "slow")]

    def test_after_a_while_it_is_forgotten(self) -> None:
        report("broker", "healthy", critical=True)
        HealthFact.objects.update(expires_at=timezone.now() - health.REMEMBERED - timedelta(seconds=1))
        assert health.aggregate() == health.Report("healthy", ())
        assert not HealthFact.objects.exists()

    @pytest.mark.parametrize(
        ("status", "critical", "whole"),
        [
            ("healthy", True, "healthy"),
            ("degraded", False, "degraded"),
            ("degraded", True, "degraded"),
            ("unhealthy", False, "degraded"),
            ("unhealthy", True, "unhealthy"),
            ("unknown", False, "degraded"),
            ("unknown", True, "unhealthy"),
        ],
    )
    def test_what_one_finding_amounts_to(self, status: health.Status, critical: bool, whole: str) -> None:
        assert summarise([Finding("a", status, critical=critical)]).status == whole

    def test_nothing_to_say_is_healthy(self) -> None:
        assert summarise([]).status == "healthy"


_FINDINGS = st.builds(
    Finding,
    name=st.just("x"),
    status=st.sampled_from(["healthy", "degraded", "unhealthy", "unknown"]),
    critical=st.booleans(),
)


@given(st.lists(_FINDINGS), st.randoms())
def test_the_whole_is_as_bad_as_its_worst_part_in_any_order(findings: list[Finding], random: Any) -> None:
    order = ["healthy", "degraded", "unhealthy"]
    worst = max((order.index(summarise([each]).status) for each in findings), default=0)
    random.shuffle(findings)
    assert summarise(findings).status == order[worst]


class TestProbes:
    def test_a_probe_that_raises_is_unhealthy_and_says_why(self) -> None:
        @health.probe("test.broken", critical=False)
        def broken() -> None:
            raise ConnectionError("amqp://u:hunter2@h refused")

        [found] = [found for found in health.ready().findings if found.name == "test.broken"]
        assert (found.status, found.message) == ("unhealthy", "ConnectionError: amqp://u:********@h refused")
        assert health.ready().status == "degraded"

    def test_its_answer_is_kept_for_a_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []

        @health.probe("test.counted")
        def counted() -> Finding:
            asked.append(1)
            return Finding("whatever", "degraded", "slow", data={"n": len(asked)})

        for _ in range(3):
            [found] = [found for found in health.ready().findings if found.name == "test.counted"]
        assert (found.status, found.critical, found.data) == ("degraded", True, {"n": 1})
        monkeypatch.setattr(health, "PROBE_CACHE_SECONDS", 0)
        health.ready()
        assert len(asked) == 2

    def test_a_critical_one_decides(self) -> None:
        @health.probe("test.critical")
        def critical() -> Finding:
            return Finding("", "unhealthy")

        assert health.ready().status == "unhealthy"


class TestPages:
    def test_everybody_is_told_the_status_and_nothing_more(self, client: Client) -> None:
        report("broker", "unhealthy", "at 10.0.0.7", critical=True)
        for url, code, status in [
            ("/health/live", 200, "healthy"),
            ("/health/ready", 200, "healthy"),
            ("/health", 503, "unhealthy"),
        ]:
            response = client.get(url)
            assert (response.status_code, response.json()) == (code, {"status": status})
            assert "no-store" in response.headers["Cache-Control"]

    def test_a_user_who_is_not_staff_is_told_no_more(self, client: Client) -> None:
        client.force_login(User.objects.create_user("u"))
        assert set(client.get("/health").json()) == {"status"}

    def test_staff_sees_the_findings(self, client: Client) -> None:
        client.force_login(User.objects.create_user("u", is_staff=True))
        report("broker", "degraded", "slow", data={"secret": "x"})
        assert client.get("/health").json() == {
            "status": "degraded",
            "findings": [{"name": "broker", "status": "degraded", "message": "slow", "critical": False}],
        }
        assert "database" in {found["name"] for found in client.get("/health/ready").json()["findings"]}

    def test_a_process_that_is_not_ready_says_so(self, client: Client) -> None:
        health.probe("test.down")(lambda: Finding("", "unhealthy"))
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200

    @pytest.mark.parametrize("url", ["/health", "/health/live", "/health/ready"])
    def test_only_reading_is_allowed(self, client: Client, url: str) -> None:
        assert client.post(url).status_code == 405
        assert client.head(url).status_code == 200

    @pytest.mark.parametrize("with_session", [False, True])
    @pytest.mark.parametrize(
        ("url", "code", "status"),
        [("/health/live", 200, "healthy"), ("/health/ready", 503, "unhealthy"), ("/health", 503, "unhealthy")],
    )
    def test_they_answer_with_the_database_down(
        self, client: Client, with_session: bool, url: str, code: int, status: str
    ) -> None:
        if with_session:
            client.force_login(User.objects.create_user("u", is_staff=True))
        with database_down():
            response = client.get(url)
        assert (response.status_code, response.json()) == (code, {"status": status})


def test_being_alive_touches_no_database(client: Client, django_assert_num_queries: Any) -> None:
    client.force_login(User.objects.create_user("u", is_staff=True))
    with django_assert_num_queries(0):
        assert client.get("/health/live").status_code == 200
