"""Time that stands still: for us, for the database in our queries, and for Django."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.template import Context, Template
from django.test import TestCase, override_settings
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import clock, health
from koan_django.core.functions import Now
from koan_django.core.leases import acquire
from koan_django.core.models import HealthFact, Lease
from koan_django.messaging.models import MessageEvent
from koan_django.testing import frozen_clock, static_secrets

NOON = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.database


def database_now() -> datetime:
    found: datetime = Lease.objects.annotate(clock=Now()).values_list("clock", flat=True).get()
    return found


@pytest.mark.django_db
def test_every_clock_shows_the_same_and_moves_together() -> None:
    Lease.objects.create(name="one")
    with frozen_clock(NOON) as frozen:
        assert clock.now() == timezone.now() == database_now() == NOON
        assert clock.stamp() == "2031-05-04T12:00:00.000000+00:00"
        began = clock.monotonic()
        assert frozen.advance(days=2, minutes=1) == NOON + timedelta(days=2, minutes=1)
        assert clock.now() == timezone.now() == database_now() == frozen.now()
        assert clock.monotonic() - began == pytest.approx(2 * 86400 + 60)
        assert Lease.objects.filter(pk__gt=0).annotate(later=Now() + timedelta(hours=1)).get().later == (
            frozen.now() + timedelta(hours=1)
        )
    assert abs((database_now() - datetime.now(UTC)).total_seconds()) < 60
    assert not clock.is_moved()


@pytest.mark.parametrize("zones", [True, False])
def test_a_stamp_is_the_time_to_the_microsecond(zones: bool) -> None:
    with override_settings(USE_TZ=zones):
        before, shown, after = datetime.now(UTC), clock.stamp(), datetime.now(UTC)
    assert before <= datetime.fromisoformat(shown) <= after
    assert len(shown) == len("2031-05-04T12:00:00.000000+00:00")


@pytest.mark.django_db
def test_references_to_djangos_now_that_were_taken_before_show_it_too() -> None:
    taken = timezone.now
    with frozen_clock(NOON):
        assert taken() == NOON
        event = MessageEvent.objects.create(kind="sent", message_id="m", alias="a", bus="main", correlation_id="c")
        assert event.at == NOON  # auto_now_add


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Madrid")
def test_without_time_zones_django_shows_its_local_time() -> None:
    with frozen_clock(NOON):
        assert timezone.now() == datetime(2031, 5, 4, 14, 0)
        assert clock.now() == NOON


@override_settings(TIME_ZONE="Europe/Madrid")
def test_templates_still_know_a_time_when_they_see_one() -> None:
    with frozen_clock(NOON):
        assert Template("{{ at|date:'H:i' }}").render(Context({"at": NOON})) == "14:00"


@pytest.mark.django_db
def test_a_lease_ends_when_its_time_has_passed_and_not_before() -> None:
    with frozen_clock() as frozen:
        held = acquire("one", timedelta(minutes=5))
        assert held is not None
        frozen.advance(minutes=4, seconds=59)
        assert acquire("one", timedelta(minutes=5)) is None
        frozen.advance(seconds=1)
        taken = acquire("one", timedelta(minutes=5))
        assert taken is not None
        assert taken.token > held.token


def _status(name: str) -> str:
    return next(found.status for found in health.aggregate().findings if found.name == name)


@pytest.mark.django_db
def test_a_fact_expires() -> None:
    with frozen_clock(NOON) as frozen:
        health.report("tests.fact", "healthy", ttl=timedelta(seconds=30))
        assert _status("tests.fact") == "healthy"
        frozen.advance(seconds=31)
        assert _status("tests.fact") != "healthy"
        assert HealthFact.objects.get().since == NOON


def test_all_threads_see_it() -> None:
    seen = []
    with frozen_clock(NOON):
        thread = threading.Thread(target=lambda: seen.append(timezone.now()))
        thread.start()
        thread.join()
    assert seen == [NOON]


def test_it_never_goes_back() -> None:
    with frozen_clock(NOON) as frozen:
        with pytest.raises(ValueError, match="cannot go back"):
            frozen.move_to(NOON - timedelta(seconds=1))
        with pytest.raises(ValueError, match="time zone"):
            frozen.move_to(datetime(2032, 1, 1))
        with pytest.raises(ValueError, match="time zone"), frozen_clock(datetime(2032, 1, 1)):
            pass
        assert clock.now() == NOON
        local = datetime(2031, 5, 4, 14, 0, 1, tzinfo=ZoneInfo("Europe/Madrid"))
        assert frozen.move_to(local) == NOON + timedelta(seconds=1)


@given(st.lists(st.floats(0, 1e7), max_size=5))
def test_what_measures_age_never_goes_back_when_clocks_change(steps: list[float]) -> None:
    shown = clock.monotonic()
    for step in steps:
        with frozen_clock(NOON) as frozen:
            assert clock.monotonic() >= shown
            frozen.advance(seconds=step)
            shown = clock.monotonic()
        assert clock.monotonic() >= shown


def test_they_nest_and_come_apart_when_the_block_raises() -> None:
    with frozen_clock(NOON) as outer:
        with pytest.raises(KeyError), frozen_clock() as inner:
            assert inner.now() == NOON
            inner.advance(hours=1)
            raise KeyError
        assert clock.now() == outer.now() == NOON
    assert not clock.is_moved()


@frozen_clock(NOON)
def test_a_function_may_be_decorated() -> None:
    assert timezone.now() == NOON


def test_a_secret_is_fetched_anew_when_its_time_is_over() -> None:
    with static_secrets({"key": "one"}) as provider, frozen_clock() as frozen:
        from koan_django import secrets

        assert secrets.get("key").reveal() == "one"
        provider.set("key", "two")
        frozen.advance(hours=1)
        assert secrets.get("key").reveal() == "two"


class ATestCase(TestCase):
    """In Django's own classes, inside their transactions."""

    def test_the_database_goes_by_it(self) -> None:
        Lease.objects.create(name="one")
        with frozen_clock(NOON):
            assert connection.in_atomic_block
            assert database_now() == NOON
