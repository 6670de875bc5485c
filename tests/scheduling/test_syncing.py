"""Code to rows: what a sync creates, keeps, changes and drops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from koan_django.scheduling import declarations, operations
from koan_django.scheduling.models import ScheduledTask
from koan_django.scheduling.syncing import sync

pytestmark = pytest.mark.database


def nothing() -> None: ...


@pytest.mark.django_db
def test_a_new_task_waits_one_interval(task):
    row = task(nothing, seconds=3600, critical=True, timeout=5, max_concurrency=2, on_startup=True)
    assert abs(row.next_run_at - timezone.now() - timedelta(hours=1)) < timedelta(seconds=10)
    assert (row.trigger, row.interval) == ("every 1 h", timedelta(hours=1))
    assert (row.critical, row.on_startup, row.timeout, row.max_concurrency) == (True, True, timedelta(seconds=5), 2)
    assert row.enabled and not row.gone and not row.drifted


@pytest.mark.django_db
def test_a_second_sync_writes_nothing(task):
    task(nothing)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        sync()
    assert queries.captured_queries
    assert all(query["sql"].startswith("SELECT") for query in queries.captured_queries)


@pytest.mark.django_db
def test_a_new_interval_in_code_plans_anew(task, declare):
    before = task(nothing, seconds=3600)
    declare(nothing, name="tests.task", seconds=60)
    sync()
    after = ScheduledTask.objects.get(name="tests.task")
    assert after.interval == timedelta(minutes=1)
    assert after.next_run_at < before.next_run_at - timedelta(minutes=50)


@pytest.mark.django_db
def test_what_the_admin_overrides_wins_over_code(task, declare):
    task(nothing, seconds=3600)
    operations.override_interval("tests.task", timedelta(seconds=10))
    planned = ScheduledTask.objects.get(name="tests.task").next_run_at
    declare(nothing, name="tests.task", seconds=7200)
    sync()
    row = ScheduledTask.objects.get(name="tests.task")
    assert (row.interval, row.schedule.interval) == (timedelta(hours=2), timedelta(seconds=10))
    assert row.drifted
    assert row.next_run_at == planned
    operations.override_interval("tests.task", None)
    row.refresh_from_db()
    assert not row.drifted
    assert row.next_run_at > planned


@pytest.mark.django_db
def test_a_task_that_code_dropped_is_gone_and_comes_back_with_what_people_set(task, declare):
    task(nothing, seconds=3600)
    operations.override_interval("tests.task", timedelta(seconds=10))
    declarations.declared.remove("tests.task")
    sync()
    row = ScheduledTask.objects.get(name="tests.task")
    assert row.gone
    assert row.next_run_at is None
    declare(nothing, name="tests.task", seconds=3600)
    sync()
    row.refresh_from_db()
    assert not row.gone
    assert row.interval_override == timedelta(seconds=10)
    assert row.next_run_at is not None


@pytest.mark.django_db
def test_a_disabled_task_stays_disabled(task):
    task(nothing)
    operations.disable("tests.task")
    sync()
    row = ScheduledTask.objects.get(name="tests.task")
    assert not row.enabled
    assert row.next_run_at is None
    operations.enable("tests.task")
    row.refresh_from_db()
    assert row.enabled
    assert row.next_run_at is not None


@pytest.mark.django_db(transaction=True)
def test_many_processes_may_sync_at_once(declare):
    for number in range(5):
        declare(nothing, name=f"tests.many-{number}", seconds=60)

    def once(_: int) -> None:
        try:
            sync()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(16)))
    rows = ScheduledTask.objects.filter(name__startswith="tests.many-")
    assert rows.count() == 5
    assert not rows.filter(next_run_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_migrate_writes_the_rows(declare):
    declare(nothing, name="tests.migrated", seconds=60)
    call_command("migrate", verbosity=0)
    assert ScheduledTask.objects.filter(name="tests.migrated").exists()
