"""The beat scheduler, tick by tick."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, schedules
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from koan_django.celery import CeleryDispatcher
from koan_django.core import dispatch
from koan_django.core.models import HealthFact, Lease
from koan_django.scheduling import Cron
from koan_django.scheduling import beat as beat_module
from koan_django.scheduling.beat import TICK, Scheduler
from koan_django.scheduling.exceptions import SchedulingError
from koan_django.scheduling.models import ScheduledTask, TaskRun
from koan_django.scheduling.periodic import NAME, TTL
from koan_django.testing import frozen_clock

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def app():
    """A Celery app with the job of scheduling, on a broker in memory; ``app.sent`` counts by task."""
    made = Celery("tests", broker="memory://", set_as_current=False)
    made.conf.beat_schedule = {"from-conf": {"task": "tests.conf", "schedule": schedules.schedule(3600)}}
    made.sent = []

    @made.task(name="koan_scheduling.run", shared=False)
    def run(run_id): ...

    @made.task(name="tests.periodic", shared=False)
    def periodic(): ...

    from celery import signals

    def note(sender=None, **_):
        made.sent.append(sender)

    signals.before_task_publish.connect(note, weak=False)
    before = dispatch.use(CeleryDispatcher(made))
    yield made
    dispatch.use(before)
    signals.before_task_publish.disconnect(note)


@pytest.fixture
def beats(app):
    """Make beats; they are closed with the test."""
    made = []

    def make():
        made.append(Scheduler(app))
        return made[-1]

    yield make
    for each in made:
        each.close()


def periodic_task():
    interval = IntervalSchedule.objects.create(every=1, period="seconds")
    row = PeriodicTask.objects.create(name="tests.periodic", task="tests.periodic", interval=interval)
    overdue(row)
    return row


def overdue(row, hours=1):
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=timezone.now() - timedelta(hours=hours))


def make_due(row):
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - timedelta(seconds=1))


def ticks(scheduler, count=5):
    for _ in range(count):
        assert 0 <= scheduler.tick() <= TICK


def test_beat_fires_what_is_due_and_wakes_in_time_for_the_next(app, beats, task):
    row = task(seconds=3600)
    scheduler = beats()
    ticks(scheduler)
    assert app.sent == []
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() + timedelta(seconds=0.2))
    ticks(scheduler, 1)
    assert scheduler.tick() <= 0.2
    make_due(row)
    ticks(scheduler)
    assert app.sent == ["koan_scheduling.run"]
    assert row.runs.get().state == "queued"


def test_beat_writes_new_tasks_into_rows_and_runs_what_asks_for_startup(app, beats, declare):
    declare(lambda: None, name="tests.fresh", on_startup=True)
    ticks(beats())
    assert TaskRun.objects.get().trigger == "startup"
    assert TaskRun.objects.get().task.name == "tests.fresh"


def test_two_beats_share_the_tasks_and_one_runs_the_periodic_ones(app, beats, task):
    row, periodic = task(seconds=3600), periodic_task()
    IntervalSchedule.objects.update(every=3600)  # however long these ticks take, it is due once
    overdue(periodic, hours=2)
    first, second = beats(), beats()
    for _ in range(6):
        first.tick()
        second.tick()
    make_due(row)
    for _ in range(4):
        second.tick()
        first.tick()
    assert app.sent.count("koan_scheduling.run") == 1
    assert app.sent.count("tests.periodic") == 1
    periodic.refresh_from_db()
    assert periodic.total_run_count == 1
    assert PeriodicTask.objects.filter(name="from-conf").count() == 1


def test_another_beat_takes_over_the_periodic_tasks_at_once_when_one_ends(app, beats):
    periodic = periodic_task()
    first, second = beats(), beats()
    ticks(first)
    ticks(second)
    first.close()
    overdue(periodic)
    second._lease.forget()  # it asks every five seconds; do not wait for it
    ticks(second)
    assert app.sent.count("tests.periodic") == 2


def test_another_beat_takes_over_when_one_is_killed_and_does_not_repeat_what_ran(app, beats):
    periodic_task()
    IntervalSchedule.objects.update(every=3600)
    first, second = beats(), beats()
    ticks(first)
    assert app.sent.count("tests.periodic") == 1
    Lease.objects.filter(name=NAME).update(lease_until=timezone.now() - TTL)
    second._lease.forget()
    ticks(second)
    assert second._lease.held
    first._lease._ask_at = 0.0
    ticks(first)
    assert not first._lease.held
    assert app.sent.count("tests.periodic") == 1


def test_an_edited_periodic_task_is_noticed(app, beats):
    row = periodic_task()
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=False)
    scheduler = beats()
    ticks(scheduler)
    row.refresh_from_db()
    row.enabled = True
    row.save()
    overdue(row)
    scheduler._periodic_at = 0.0  # it looks every five seconds
    ticks(scheduler)
    assert app.sent.count("tests.periodic") == 1


def test_beat_survives_trouble_with_the_database_and_goes_on(app, beats, task, monkeypatch, caplog):
    row, periodic = task(seconds=3600), periodic_task()
    scheduler = beats()
    ticks(scheduler)
    with monkeypatch.context() as patch:
        patch.setattr(beat_module, "seconds_until_due", _raises)
        waits = [scheduler.tick() for _ in range(5)]
    assert waits == sorted(waits)
    assert waits[-1] <= beat_module.PATIENCE
    assert "could not reach the database" in caplog.text
    Lease.objects.update(lease_until=None)  # its own, which it let go of
    make_due(row)
    overdue(periodic)
    ticks(scheduler)
    assert app.sent.count("koan_scheduling.run") == 1
    assert app.sent.count("tests.periodic") == 2


def _raises():
    raise OperationalError("the server closed the connection")


def test_beat_goes_on_after_its_connection_was_cut(app, beats, task):
    scheduler = beats()
    ticks(scheduler)
    if connection.vendor == "postgresql":
        connection.connection.close()  # as after a restart of the server: Django does not know yet
        scheduler.tick()
    make_due(task(seconds=3600))
    ticks(scheduler, 10)
    assert app.sent.count("koan_scheduling.run") == 1


def test_beat_says_that_it_is_alive_and_takes_it_back(app, beats):
    scheduler = beats()
    ticks(scheduler)
    fact = HealthFact.objects.get(name="scheduling.beat")
    assert fact.status == "healthy"
    assert "periodic" in fact.message
    scheduler.close()
    assert not HealthFact.objects.filter(name="scheduling.beat").exists()


def test_a_signal_in_the_middle_of_a_tick_touches_no_database(app, beats, monkeypatch):
    scheduler = beats()
    ticks(scheduler)

    def interrupted():
        with CaptureQueriesContext(connection) as queries:
            scheduler.close()  # as Celery's signal handler does
        assert queries.captured_queries == []
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(beat_module, "seconds_until_due", interrupted)
        scheduler.tick()
    assert Lease.objects.filter(name=NAME, lease_until__gt=timezone.now()).exists()
    scheduler.close()
    assert not Lease.objects.filter(name=NAME, lease_until__gt=timezone.now()).exists()


def test_a_beat_made_to_be_looked_at_touches_nothing(app, task):
    task(seconds=3600)
    scheduler = Scheduler(app, lazy=True)
    assert scheduler.max_interval
    assert not Lease.objects.filter(name=NAME).exists()


def test_without_install_beat_refuses_and_says_what_to_do():
    with pytest.raises(SchedulingError, match=r"install\(app\)"):
        Scheduler(Celery("bare", broker="memory://", set_as_current=False))


def test_a_line_of_cron_fires_at_its_time_by_whichever_beat_is_first(app, beats, task):
    """Through the night in which the clocks of Madrid go back: once an hour would be twice at two."""
    madrid = ZoneInfo("Europe/Madrid")
    with frozen_clock(datetime(2026, 10, 25, 0, 30, tzinfo=madrid)) as clock:
        row = task(trigger=Cron("30 2 * * *", timezone="Europe/Madrid"))
        one, other = beats(), beats()
        for _ in range(8):
            clock.advance(minutes=30)
            one.tick()
            other.tick()
        run = row.runs.get()
        assert run.planned_at.astimezone(madrid) == datetime(2026, 10, 25, 2, 30, tzinfo=madrid)
        assert app.sent.count("koan_scheduling.run") == run.sends
