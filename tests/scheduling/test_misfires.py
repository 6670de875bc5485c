"""Cron tasks from their row to their run, by a clock that the tests move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from koan_django.core import dispatch
from koan_django.scheduling import Cron, Every, SchedulingError, firing, operations, scheduled, sweeping
from koan_django.scheduling.models import ScheduledTask, TaskRun
from koan_django.scheduling.running import execute
from koan_django.scheduling.syncing import sync
from koan_django.testing import FrozenClock, frozen_clock, override_koan

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
MADRID = ZoneInfo("Europe/Madrid")
NIGHTLY, HOURLY = Cron("0 3 * * *", timezone="Europe/Madrid"), Cron("0 * * * *", timezone="UTC")


@pytest.fixture
def clock():
    with frozen_clock(datetime(2026, 3, 27, 12, 0, tzinfo=MADRID)) as frozen:
        yield frozen


@pytest.fixture(autouse=True)
def nobody():
    """Runs are queued and not begun: the tests begin them."""

    class Nowhere:
        def send(self, job, args, kwargs, context):
            pass

    before = dispatch.use(Nowhere())
    yield
    dispatch.use(before)


def next_local(row: ScheduledTask) -> str:
    row.refresh_from_db()
    return f"{row.next_run_at.astimezone(MADRID):%d %H:%M}"


def fire_and_run(row: ScheduledTask) -> TaskRun:
    assert firing.fire_due() == 1
    run = row.runs.latest("pk")
    execute(run.pk)
    run.refresh_from_db()
    return run


def test_a_nightly_task_runs_at_its_local_time_also_when_clocks_change(task, clock: FrozenClock) -> None:
    row = task(trigger=NIGHTLY)
    assert (row.trigger, row.cron, row.timezone, row.interval) == (
        "0 3 * * * Europe/Madrid",
        "0 3 * * *",
        "Europe/Madrid",
        None,
    )
    assert next_local(row) == "28 03:00"
    clock.move_to(row.next_run_at - timedelta(seconds=1))
    assert firing.fire_due() == 0
    assert firing.seconds_until_due() == 1
    clock.advance(seconds=1)
    run = fire_and_run(row)
    assert (run.state, run.trigger) == ("succeeded", "schedule")
    assert run.planned_at.astimezone(MADRID).hour == 3
    assert next_local(row) == "29 03:00"  # the night without an hour
    assert row.next_run_at - run.planned_at == timedelta(hours=23)


def test_run_once_runs_what_was_missed_once_and_as_soon_as_it_can(task, clock: FrozenClock) -> None:
    row = task(trigger=HOURLY)
    clock.advance(hours=5, minutes=30)
    run = fire_and_run(row)
    assert (run.state, run.trigger) == ("succeeded", "catch-up")
    assert run.planned_at == datetime(2026, 3, 27, 12, 0, tzinfo=UTC)  # the first that was missed
    row.refresh_from_db()
    assert row.next_run_at == datetime(2026, 3, 27, 17, 0, tzinfo=UTC)
    assert firing.fire_due() == 0


def test_skip_waits_for_the_next_and_leaves_a_record(task, clock: FrozenClock) -> None:
    row = task(trigger=HOURLY, misfire="skip")
    clock.advance(hours=5, minutes=30)
    assert firing.fire_due() == 1
    run = row.runs.get()
    assert (run.state, run.planned_at) == ("skipped", datetime(2026, 3, 27, 12, 0, tzinfo=UTC))
    assert "4 h 30 min late" in run.error
    row.refresh_from_db()
    assert row.next_run_at == datetime(2026, 3, 27, 17, 0, tzinfo=UTC)
    clock.move_to(row.next_run_at)
    assert fire_and_run(row).state == "succeeded"


@pytest.mark.parametrize("misfire", ["skip", "run-once"])
def test_a_minute_late_is_not_missed(task, clock: FrozenClock, misfire: str) -> None:
    row = task(trigger=HOURLY, misfire=misfire)
    clock.move_to(row.next_run_at + timedelta(minutes=1))
    run = fire_and_run(row)
    assert (run.state, run.trigger) == ("succeeded", "schedule")


@pytest.mark.parametrize(("misfire", "expected"), [("run-once", 13), ("skip", 16)])
def test_times_that_come_while_a_run_goes_on(task, clock: FrozenClock, misfire: str, expected: int) -> None:
    """Three: once more at once, or none of them."""
    row = task(lambda: clock.advance(hours=3, minutes=30), trigger=HOURLY, misfire=misfire)
    clock.move_to(row.next_run_at)
    with override_koan(SCHEDULING={"LEASE": "4h"}):  # no real time passes in which a heartbeat could renew it
        fire_and_run(row)
    row.refresh_from_db()
    assert row.next_run_at == datetime(2026, 3, 27, expected, 0, tzinfo=UTC)


def test_what_was_missed_by_a_disabled_task_is_over(task, clock: FrozenClock) -> None:
    row = task(trigger=HOURLY)
    operations.disable(row.name)
    clock.advance(days=2, minutes=30)
    operations.enable(row.name)
    row.refresh_from_db()
    assert row.next_run_at == datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


def test_an_interrupted_run_is_repeated_at_once_and_not_taken_for_a_missed_time(task, clock: FrozenClock) -> None:
    row = task(trigger=HOURLY, misfire="skip")
    clock.move_to(row.next_run_at)
    firing.fire_due()
    TaskRun.objects.update(state="running", lease_until=clock.now(), started_at=clock.now())
    clock.advance(minutes=2)
    sweeping.sweep()
    clock.advance(minutes=2)  # beat was away for a moment
    assert firing.fire_due() == 1
    again = row.runs.latest("pk")
    assert (again.state, again.trigger, again.attempt) == ("queued", "catch-up", 2)


def test_a_changed_expression_or_zone_is_planned_anew(task, clock: FrozenClock) -> None:
    row = task(trigger=NIGHTLY)
    row = task(trigger=Cron("0 4 * * *", timezone="Europe/Madrid"))
    assert next_local(row) == "28 04:00"
    row = task(trigger=Cron("0 4 * * *", timezone="UTC"))
    assert next_local(row) == "28 05:00"
    row = task(trigger=Every(hours=2))
    assert (row.cron, row.interval, next_local(row)) == ("", timedelta(hours=2), "27 14:00")
    row = task(trigger=NIGHTLY)
    assert (row.interval, next_local(row)) == (None, "28 03:00")


def test_an_expression_is_overridden_in_its_zone_and_shows_as_drift(task, clock: FrozenClock) -> None:
    row = task(trigger=NIGHTLY)
    operations.override_cron(row.name, "30 5 * * *")
    assert next_local(row) == "28 05:30"
    assert row.drifted
    assert str(row.schedule) == "30 5 * * * Europe/Madrid"
    sync()
    assert next_local(row) == "28 05:30"  # code does not win over people
    with pytest.raises(SchedulingError, match="cannot be scheduled"):
        operations.override_cron(row.name, "99 * * * *")
    operations.override_cron(row.name, "")
    assert next_local(row) == "28 03:00"
    assert not row.drifted


def test_an_override_that_cannot_be_does_not_stop_the_task(task, clock: FrozenClock, caplog) -> None:
    row = task(trigger=NIGHTLY)
    ScheduledTask.objects.filter(pk=row.pk).update(cron_override="99 * * * *")  # past every check of ours
    clock.move_to(row.next_run_at)
    assert fire_and_run(row).state == "succeeded"
    assert next_local(row) == "29 03:00"
    assert "bad minute" in caplog.text


def test_the_admin_offers_the_expression_and_refuses_one_that_cannot_be(task, clock: FrozenClock, admin_client) -> None:
    row = task(trigger=NIGHTLY, misfire="skip")
    change = reverse("admin:koan_scheduling_scheduledtask_change", args=[row.pk])
    page = admin_client.get(change).content.decode()
    assert 'name="cron_override"' in page
    assert 'name="interval_override"' not in page
    assert "wait for the next" in page
    assert "bad hour" in admin_client.post(change, {"cron_override": "0 99 * * *"}).content.decode()
    assert admin_client.post(change, {"cron_override": "0 6 * * *"}).status_code == 302
    assert next_local(row) == "28 06:00"
    assert "code: 0 3 * * * Europe/Madrid" in (
        admin_client.get(reverse("admin:koan_scheduling_scheduledtask_changelist")).content.decode()
    )
    with pytest.raises(ValidationError):
        ScheduledTask(cron="0 3 * * *", timezone="UTC", cron_override="x").clean()


def test_what_is_due_is_one_query_on_the_index(task, clock: FrozenClock) -> None:
    for number in range(5):
        task(trigger=NIGHTLY, name=f"tests.nightly-{number}")
    with CaptureQueriesContext(connection) as statements:
        firing.seconds_until_due()
    assert len(statements) == 1
    if connection.vendor == "sqlite":
        plan = ScheduledTask.objects.all().due().explain()
        assert "next_run_at" in plan.lower()
        assert "INDEX" in plan


def test_a_critical_task_is_overdue_after_five_minutes_and_not_after_three_nights(task, clock: FrozenClock) -> None:
    from koan_django.scheduling.condition import findings

    row = task(trigger=NIGHTLY, critical=True)
    clock.move_to(row.next_run_at + timedelta(minutes=4))
    assert [found.status for found in findings()] == ["healthy"]
    clock.advance(minutes=2)
    ((found),) = findings()
    assert (found.status, found.message) == ("unhealthy", "overdue by 6 min")


@pytest.mark.parametrize("options", [{"trigger": Every(hours=1), "misfire": "skip"}, {"misfire": "later"}])
def test_policies_that_cannot_work_are_refused(options) -> None:
    with pytest.raises(SchedulingError, match="misfire"):
        scheduled(options.pop("trigger", NIGHTLY), **options)
