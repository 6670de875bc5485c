"""What was left behind is put right."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from koan_django.core import dispatch
from koan_django.scheduling import firing, sweeping
from koan_django.scheduling.models import ScheduledTask, TaskRun
from koan_django.scheduling.sending import RESEND_AFTER, RESEND_AT_MOST
from koan_django.testing import override_koan

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def sent():
    """Run ids as they are sent; nothing runs."""
    ids = []

    class Mailbox:
        def send(self, job, args, kwargs, context):
            ids.extend(args)

    before = dispatch.use(Mailbox())
    yield ids
    dispatch.use(before)


def fire(row):
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - timedelta(seconds=1))
    assert firing.fire_due() == 1
    return row.runs.latest("pk")


def abandon(run, **changes):
    """What a worker leaves that was killed while it ran."""
    ended = {"state": "running", "worker": "host:1:worker", "lease_token": 1, "started_at": Now()}
    TaskRun.objects.filter(pk=run.pk).update(**{**ended, "lease_until": Now() - timedelta(seconds=1), **changes})


def test_a_run_whose_worker_died_is_interrupted_and_its_task_is_due_at_once(task):
    row = task(seconds=3600)
    run = fire(row)
    abandon(run)
    sweeping.sweep()
    run.refresh_from_db()
    row.refresh_from_db()
    assert (run.state, run.lease_until) == ("interrupted", None)
    assert "host:1:worker" in run.error
    assert row.last_state == "interrupted"
    assert firing.seconds_until_due() <= 0
    assert firing.fire_due() == 1
    again = row.runs.latest("pk")
    assert (again.trigger, again.attempt) == ("catch-up", 2)


def test_a_task_that_kills_its_workers_goes_back_to_its_interval(task):
    row = task(seconds=3600)
    abandon(fire(row))
    sweeping.sweep()
    firing.fire_due()
    abandon(row.runs.latest("pk"))
    sweeping.sweep()
    row.refresh_from_db()
    assert row.interruptions == 2
    assert firing.seconds_until_due() > 3500


def test_a_run_that_died_after_its_deadline_is_a_timeout(task):
    row = task(seconds=3600, timeout=5)
    run = fire(row)
    abandon(run, deadline=Now() - timedelta(seconds=1))
    sweeping.sweep()
    run.refresh_from_db()
    row.refresh_from_db()
    assert run.state == row.last_state == "timeout"
    assert row.interruptions == 0
    assert firing.seconds_until_due() > 3500


def test_a_run_that_gives_signs_of_life_is_left_alone(task):
    run = fire(task())
    abandon(run, lease_until=Now() + timedelta(seconds=30))
    sweeping.sweep()
    run.refresh_from_db()
    assert run.state == "running"


def test_a_queued_run_is_sent_again_when_nobody_began_it_and_less_and_less_often(task, sent):
    run = fire(task())
    sweeping.sweep()
    assert sent == [run.pk]
    waits = []
    for _ in range(12):
        TaskRun.objects.filter(pk=run.pk).update(resend_at=Now() - timedelta(seconds=1))
        sweeping.sweep()
        run.refresh_from_db()
        waits.append(round((run.resend_at - timezone.now()).total_seconds()))
    assert sent == [run.pk] * 13
    assert run.sends == 13
    assert waits == sorted(waits)
    assert waits[0] > RESEND_AFTER.total_seconds()
    assert waits[-1] <= RESEND_AT_MOST.total_seconds()


def test_queued_runs_of_a_task_that_is_gone_are_skipped_and_not_sent(task, sent):
    row = task()
    run = fire(row)
    sent.clear()
    ScheduledTask.objects.filter(pk=row.pk).update(gone=True)
    TaskRun.objects.filter(pk=run.pk).update(resend_at=Now() - timedelta(seconds=1))
    sweeping.sweep()
    run.refresh_from_db()
    row.refresh_from_db()
    assert (run.state, sent) == ("skipped", [])
    assert row.next_run_at is None


def test_a_task_that_nobody_planned_is_planned(task):
    row = task(seconds=60)
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=None)
    sweeping.sweep()
    row.refresh_from_db()
    assert row.next_run_at is not None


def test_a_sweep_leaves_alone_what_is_as_it_should_be(task):
    under_way, disabled = task(name="tests.under-way"), task(name="tests.disabled")
    fire(under_way)
    ScheduledTask.objects.filter(pk=disabled.pk).update(enabled=False, next_run_at=None)
    sweeping.sweep()
    assert not ScheduledTask.objects.filter(next_run_at__isnull=False).exists()


def test_old_records_are_deleted_and_what_is_under_way_never(task, monkeypatch):
    monkeypatch.setattr(sweeping, "PURGE_BATCH", 2)
    row, old = task(), timezone.now() - timedelta(hours=3)
    for number in range(5):
        run = TaskRun.objects.create(task=row, trigger="schedule", planned_at=old + timedelta(seconds=number))
        TaskRun.objects.filter(pk=run.pk).update(state="succeeded" if number else "queued")
    young = TaskRun.objects.create(task=row, trigger="schedule", planned_at=timezone.now(), state="failed")
    with override_koan(SCHEDULING={"RETENTION": "2h"}):
        assert sweeping.purge_old() == 4
    left = set(TaskRun.objects.values_list("state", flat=True))
    assert left == {"queued", "failed"}
    assert TaskRun.objects.filter(pk=young.pk).exists()
