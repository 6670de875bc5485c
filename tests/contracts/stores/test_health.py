"""What every store of health facts does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from koan_django.core import health
from koan_django.core.stores import Fact, KnownFact, health_store
from tests.contracts.stores.conftest import COMMITTING
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.database, COMMITTING, pytest.mark.usefixtures("kind")]

LONG, SHORT, REMEMBERED = timedelta(minutes=1), timedelta(milliseconds=50), timedelta(minutes=5)


def record(name: str, status: health.Status = "healthy", reporter: str = "host:1:web", ttl: timedelta = LONG) -> None:
    health_store().record(Fact(name, reporter, status), ttl)


def known(remembered: timedelta = REMEMBERED) -> list[KnownFact]:
    return health_store().facts(remembered)


def test_a_fact_comes_back_as_it_was_said() -> None:
    fact = Fact("broker | «λ»", "host:1:web", "degraded", True, "slow |", {"queues": [], "by": {"n": 1.5}, "x": None})
    health_store().record(fact, LONG)
    [found] = known()
    assert found.fact == fact
    assert found.since == found.reported_at
    assert not found.expired


def test_there_is_one_for_each_name_and_reporter_in_order() -> None:
    for name, reporter in [("b", "host:1:web"), ("a", "host:2:web"), ("a", "host:1:web"), ("a", "host:1:web")]:
        record(name, reporter=reporter)
    found = [(each.fact.name, each.fact.reporter) for each in known()]
    assert found == [("a", "host:1:web"), ("a", "host:2:web"), ("b", "host:1:web")]


def test_since_tells_how_long_a_status_has_lasted() -> None:
    record("broker")
    first = known()[0]
    wait_until(lambda: record("broker") or known()[0].reported_at > first.reported_at, what="the clock to move")
    assert known()[0].since == first.since
    record("broker", "unhealthy")
    assert known()[0].since > first.since


def test_a_fact_expires_and_is_forgotten() -> None:
    record("broker", ttl=SHORT)
    wait_until(lambda: known()[0].expired, what="its end", every=0.02)
    assert health.aggregate().findings[0].status == "unknown"
    assert known(timedelta(0)) == []
    assert known() == []


def test_a_reporter_takes_back_its_own_and_nothing_else() -> None:
    for name in ("a", "b", "c"):
        record(name)
    record("a", reporter="host:1:webs")
    health_store().retract("host:1:web", ["a", "nothing"])
    assert [(each.fact.name, each.fact.reporter) for each in known()] == [
        ("a", "host:1:webs"),
        ("b", "host:1:web"),
        ("c", "host:1:web"),
    ]
    health_store().retract("host:1:web", [])
    assert len(known()) == 3
    health_store().retract("host:1:web", None)
    assert [each.fact.reporter for each in known()] == ["host:1:webs"]


def test_the_pages_of_health_read_it() -> None:
    health.report("broker", "unhealthy", "gone", critical=True)
    assert health.aggregate() == health.Report("unhealthy", (health.Finding("broker", "unhealthy", "gone", True),))
    health.retract()
    assert health.aggregate().findings == ()
