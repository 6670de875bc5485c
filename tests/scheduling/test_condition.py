"""Critical tasks and the health of the whole."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from koan_django.core import health
from koan_django.scheduling import condition
from koan_django.scheduling.models import ScheduledTask, TaskRun

pytestmark = [pytest.mark.database, pytest.mark.django_db]


def judge(row, **changes):
    ScheduledTask.objects.filter(pk=row.pk).update(**changes)
    (found,) = condition.findings()
    assert found.name == f"scheduling.{row.name}"
    assert found.critical
    return found.status


def ago(**time):
    return timezone.now() - timedelta(**time)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        (lambda: {"last_state": "succeeded"}, "healthy"),
        (lambda: {}, "healthy"),
        (lambda: {"next_run_at": ago(seconds=150)}, "healthy"),
        (lambda: {"next_run_at": ago(seconds=190)}, "unhealthy"),
        (lambda: {"next_run_at": ago(seconds=190), "interval_override": timedelta(hours=1)}, "healthy"),
        (lambda: {"last_state": "failed", "last_error": "no"}, "unhealthy"),
        (lambda: {"last_state": "timeout"}, "unhealthy"),
        (lambda: {"last_state": "interrupted"}, "degraded"),
        (lambda: {"enabled": False, "next_run_at": None}, "degraded"),
    ],
)
def test_a_critical_task_is_as_healthy_as_its_last_run_and_its_punctuality(task, changes, status):
    assert judge(task(critical=True, seconds=60), **changes()) == status


def test_a_run_that_no_worker_begins_is_overdue_too(task):
    row = task(critical=True, seconds=60)
    run = TaskRun.objects.create(task=row, trigger="schedule", planned_at=ago(seconds=200))
    assert judge(row, next_run_at=None) == "unhealthy"
    TaskRun.objects.filter(pk=run.pk).update(state="running", lease_until=timezone.now())
    assert judge(row) == "healthy"


def test_tasks_that_are_not_critical_or_gone_say_nothing(task):
    task(name="tests.other")
    ScheduledTask.objects.filter(pk=task(name="tests.gone", critical=True).pk).update(gone=True, last_state="failed")
    assert list(condition.findings()) == []
    assert condition.critical_tasks() is None


def test_a_critical_task_that_failed_makes_every_process_not_ready(task, client, monkeypatch):
    monkeypatch.setattr(health, "_cache", {})
    row = task(critical=True)
    assert client.get("/health/ready").status_code == 200
    ScheduledTask.objects.filter(pk=row.pk).update(last_state="failed", last_error="ValueError: no")
    health._cache.clear()
    assert client.get("/health/ready").status_code == 503
    found = condition.critical_tasks()
    assert "tests.task" in found.message
    assert "ValueError" in found.message


def test_beat_reports_it_as_a_fact(task):
    ScheduledTask.objects.filter(pk=task(critical=True).pk).update(last_state="failed")
    condition.report()
    facts = {found.name: found for found in health.aggregate().findings}
    assert facts["scheduling.tests.task"].status == "unhealthy"
    assert health.aggregate().status == "unhealthy"
