"""Due tasks become runs: once each, however many fire."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django.utils import timezone

from koan_django.core import correlation, dispatch
from koan_django.scheduling import firing, operations
from koan_django.scheduling.exceptions import BusyError, UnknownTaskError
from koan_django.scheduling.models import ScheduledTask, TaskRun

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


class Mailbox:
    """A dispatcher that keeps what it is given."""

    def __init__(self):
        self.sent = []

    def send(self, job, args, kwargs, context):
        self.sent.append((job, args, dict(context)))


@pytest.fixture
def mailbox():
    box = Mailbox()
    before = dispatch.use(box)
    yield box
    dispatch.use(before)


def make_due(row, by=timedelta(seconds=1)):
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - by)
    row.refresh_from_db()
    return row


def test_a_task_that_is_due_fires_and_waits_for_its_end(task, mailbox):
    row = make_due(task(timeout=7))
    planned = row.next_run_at
    assert firing.seconds_until_due() < 0
    assert firing.fire_due() == 1
    row.refresh_from_db()
    run = row.runs.get()
    assert row.next_run_at is None
    assert (run.state, run.trigger, run.planned_at, run.attempt) == ("queued", "schedule", planned, 1)
    ((job, args, context),) = mailbox.sent
    assert (job.name, args) == ("koan_scheduling.run", (run.pk,))
    assert job.limit == timedelta(seconds=7)
    assert context["correlation"] == run.correlation_id == run.uuid.hex
    assert firing.fire_due() == 0
    assert firing.seconds_until_due() is None


def test_what_is_not_due_disabled_or_gone_does_not_fire(task, mailbox):
    waits = task(name="tests.waits")
    for name, state in (("tests.off", {"enabled": False}), ("tests.gone", {"gone": True})):
        ScheduledTask.objects.filter(pk=make_due(task(name=name)).pk).update(**state)
    assert firing.fire_due() == 0
    assert mailbox.sent == []
    assert 0 < firing.seconds_until_due() <= waits.interval.total_seconds()


def test_many_who_fire_at_once_fire_each_task_once(task, mailbox):
    rows = [make_due(task(name=f"tests.crowd-{number}")) for number in range(20)]
    together = threading.Barrier(6)

    def fire(_):
        together.wait()
        try:
            for _attempt in range(50):
                try:
                    if firing.fire_due() == 0:
                        return
                except OperationalError:  # SQLite lets one write at a time; beat tries again, too
                    continue
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(fire, range(6)))
    assert TaskRun.objects.count() == len(rows) == len(mailbox.sent)
    assert {args for _, args, _ in mailbox.sent} == {(run.pk,) for run in TaskRun.objects.all()}
    assert not ScheduledTask.objects.filter(next_run_at__isnull=False).exists()


def test_a_task_cannot_have_two_runs_of_one_planned_time(task):
    row, now = task(), timezone.now()
    TaskRun.objects.create(task=row, trigger="schedule", planned_at=now)
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskRun.objects.create(task=row, trigger="schedule", planned_at=now)


def test_a_planned_time_that_was_used_does_not_stop_the_others(task, mailbox):
    used, other = make_due(task(name="tests.used")), make_due(task(name="tests.other"))
    TaskRun.objects.create(task=used, trigger="schedule", planned_at=used.next_run_at, state="succeeded")
    firing.fire_due()
    assert other.runs.count() == 1
    assert used.runs.count() == 1


def test_startup_fires_what_asks_for_it_once_for_beats_that_start_together(task, mailbox):
    starts, waits = task(name="tests.starts", on_startup=True), task(name="tests.waits")
    assert firing.fire_startup() == 1
    assert starts.runs.get().trigger == "startup"
    assert not waits.runs.exists()
    ScheduledTask.objects.filter(pk=starts.pk).update(next_run_at=timezone.now() + timedelta(hours=1))
    assert firing.fire_startup() == 0
    TaskRun.objects.update(planned_at=timezone.now() - timedelta(minutes=2))
    assert firing.fire_startup() == 1


def test_startup_leaves_alone_what_is_under_way(task, mailbox):
    make_due(task(on_startup=True))
    firing.fire_due()
    assert firing.fire_startup() == 0


def test_a_run_asked_for_keeps_the_schedule_from_overlapping_it(task, mailbox):
    row = make_due(task())
    with correlation.use("request-1"):
        run = operations.run_now(row.name)
    run.refresh_from_db()
    assert (run.trigger, run.correlation_id) == ("manual", "request-1")
    assert firing.fire_due() == 0
    with pytest.raises(BusyError):
        operations.run_now(row.name)
    assert row.runs.count() == 1


def test_more_than_one_run_may_be_allowed(task, mailbox):
    row = make_due(task(max_concurrency=2))
    operations.run_now(row.name)
    assert firing.fire_due() == 1
    with pytest.raises(BusyError):
        operations.run_now(row.name)


def test_a_run_of_nothing_is_refused(task):
    with pytest.raises(UnknownTaskError):
        operations.run_now("tests.nothing")


def test_a_run_asked_for_in_a_transaction_that_rolls_back_never_was(task, mailbox):
    row = task()
    with transaction.atomic():
        operations.run_now(row.name)
        transaction.set_rollback(True)
    assert mailbox.sent == []
    assert not TaskRun.objects.exists()
    row.refresh_from_db()
    assert row.next_run_at is not None
