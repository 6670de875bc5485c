"""One run from begin to end: what is recorded, and what becomes of the task."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db.models.functions import Now
from django.utils import timezone

from koan_django.core import correlation, redaction, telemetry, tenant
from koan_django.core.exceptions import LeaseLostError
from koan_django.scheduling import Run, declarations, firing, operations
from koan_django.scheduling.beginning import begin
from koan_django.scheduling.concluding import Outcome, finish
from koan_django.scheduling.exceptions import RunCancelledError
from koan_django.scheduling.models import RunState, ScheduledTask, TaskRun
from koan_django.scheduling.running import execute
from koan_django.testing import override_koan
from tests.services import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def perform(name: str = "tests.task") -> TaskRun:
    """Run the task here, as a worker would."""
    run = firing.request_run(name)
    execute(run.pk)
    return TaskRun.objects.select_related("task").get(pk=run.pk)


def test_a_run_that_ends_well_is_recorded_and_planned_from_its_end(task):
    def work(run: Run) -> None:
        time.sleep(0.05)
        run.progress(3, 3, "all")
        run.log("did three")
        run.result(done=3)
        run.result(failed=0)

    row = task(work, seconds=60)
    run = perform()
    row.refresh_from_db()
    assert (run.state, run.error, run.traceback) == ("succeeded", "", "")
    assert run.result == {"done": 3, "failed": 0}
    assert run.progress == {"done": 3, "total": 3, "note": "all"}
    assert "did three" in run.log
    assert timedelta(seconds=0.05) <= run.duration < timedelta(seconds=10)
    assert run.lease_until is None
    assert run.worker
    assert run.planned_at <= run.started_at + timedelta(seconds=1)
    assert row.last_state == "succeeded"
    assert row.last_success_at == row.last_finished_at
    assert abs(row.next_run_at - run.finished_at - timedelta(seconds=60)) < timedelta(seconds=1)


def test_a_failure_is_recorded_with_its_trace_and_without_secrets(task):
    redaction.register_value("hunter2-hunter2")
    try:

        def work() -> None:
            raise ValueError("no login with hunter2-hunter2 at amqp://me:secretpw@host/")

        row = task(work)
        run = perform()
    finally:
        redaction.forget_value("hunter2-hunter2")
    row.refresh_from_db()
    assert run.state == row.last_state == "failed"
    assert run.error.startswith("ValueError: no login")
    assert "test_running" in run.traceback
    for text in (run.error, run.traceback, row.last_error):
        assert "hunter2-hunter2" not in text
        assert "secretpw" not in text
    assert row.next_run_at is not None
    assert row.last_success_at is None


class Counter:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def run(self, run: Run) -> None:
        run.result(made=self.made)


def test_a_class_is_made_anew_for_each_run(task):
    task(Counter)
    assert [perform().result, perform().result] == [{"made": 1}, {"made": 2}]


def test_async_tasks_run_and_may_use_the_orm(task):
    async def work(run: Run) -> None:
        await asyncio.sleep(0)
        run.progress(1, 1)
        run.result(tasks=await ScheduledTask.objects.filter(name="tests.task").acount())
        await sync_to_async(run.heartbeat)()

    task(work)
    run = perform()
    assert (run.state, run.result) == ("succeeded", {"tasks": 1})


def test_a_failure_in_async_code_is_a_failure(task):
    async def work() -> None:
        raise LookupError("gone")

    task(work)
    assert perform().error == "LookupError: gone"


def test_a_run_knows_itself(task):
    seen = []
    row = task(lambda run: seen.append(run), timeout=30)
    first, second = perform(), perform()
    one, two = seen
    row.refresh_from_db()
    assert (one.id, one.task, one.trigger, one.attempt) == (first.uuid, "tests.task", "manual", 1)
    assert one.deadline == one.started_at + timedelta(seconds=30)
    assert one.interval is None
    assert one.previous_success is None
    assert two.interval == second.planned_at - first.planned_at
    assert abs(two.previous_success - first.finished_at) < timedelta(seconds=1)
    assert two.fencing_token > one.fencing_token
    assert second.lease_token == two.fencing_token == row.fence
    assert "_renew" not in repr(one)


def test_a_run_works_in_its_own_context(task):
    seen = []
    task(lambda: seen.append((correlation.current(), tenant.current())))
    with tenant.use("acme"), correlation.use("request-7"):
        run = perform()
        assert correlation.current() == "request-7"
    assert seen == [("request-7", None)]
    assert run.correlation_id == "request-7"


def test_a_run_is_a_span(task):
    events = []
    stop = telemetry.subscribe(events.append, "scheduling.")
    try:
        task(lambda: 1 / 0)
        run = perform()
    finally:
        stop()
    names = [(event.name, event.phase) for event in events]
    assert names == [
        ("scheduling.run", "start"),
        ("scheduling.run", "exception"),
        ("scheduling.ended", "fact"),
    ]
    assert events[0].metadata["run"] == str(run.uuid)
    assert events[-1].metadata["state"] == "failed"


def test_a_message_that_comes_twice_runs_once(task):
    calls = []
    task(lambda: calls.append(1))
    run = perform()
    execute(run.pk)
    execute(run.pk + 1000)
    assert calls == [1]


def test_two_workers_with_one_message_run_it_once(task):
    calls, inside = [], threading.Event()

    def work() -> None:
        calls.append(1)
        inside.wait(10)

    task(work)
    run = firing.request_run("tests.task")
    first = threading.Thread(target=_and_close, args=(execute, run.pk))
    first.start()
    wait_until(lambda: calls, what="the first to be inside")
    execute(run.pk)
    inside.set()
    first.join()
    assert calls == [1]


def _and_close(function, *args):
    from django.db import connections

    try:
        function(*args)
    finally:
        connections.close_all()


def test_no_more_runs_begin_than_may_be(task):
    row = task(max_concurrency=1)
    first = TaskRun.objects.create(task=row, trigger="manual", planned_at=timezone.now())
    TaskRun.objects.filter(pk=first.pk).update(state="running", lease_until=Now() + timedelta(seconds=30))
    second = TaskRun.objects.create(task=row, trigger="schedule", planned_at=timezone.now())
    execute(second.pk)
    second.refresh_from_db()
    assert second.state == "skipped"
    assert "under way" in second.error


def test_runs_asked_for_do_not_let_the_schedule_exceed_what_may_be(task):
    row = task(max_concurrency=2)
    asked = [firing.request_run(row.name), firing.request_run(row.name)]
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - timedelta(seconds=1))
    due = _fired()
    assert all(begin(run) for run in asked)
    assert begin(due) is None
    due.refresh_from_db()
    row.refresh_from_db()
    assert due.state == "skipped"
    assert row.next_run_at > timezone.now()  # it is tried again at its interval


def test_the_end_of_a_run_asked_for_plans_nothing_while_the_schedule_has_one_under_way(task):
    row = task(max_concurrency=2)
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - timedelta(seconds=1))
    due = _fired()
    held = begin(due)
    assert perform().state == "succeeded"
    row.refresh_from_db()
    assert row.next_run_at is None
    assert finish(due, held, Outcome(RunState.SUCCEEDED), 0.1, {})
    row.refresh_from_db()
    assert row.next_run_at is not None


def test_a_queued_run_of_a_task_that_was_disabled_is_skipped(task):
    calls = []
    row = task(lambda: calls.append(1))
    ScheduledTask.objects.filter(pk=row.pk).update(next_run_at=timezone.now() - timedelta(seconds=1))
    run = _fired()
    operations.disable(row.name)
    execute(run.pk)
    run.refresh_from_db()
    row.refresh_from_db()
    assert run.state == "skipped"
    assert row.next_run_at is None
    assert calls == []
    assert perform().state == "succeeded"  # who asks for a run gets one
    row.refresh_from_db()
    assert row.next_run_at is None


def _fired() -> TaskRun:
    from koan_django.core import dispatch

    class Nowhere:
        def send(self, *args):
            pass

    before = dispatch.use(Nowhere())
    try:
        assert firing.fire_due() == 1
    finally:
        dispatch.use(before)
    return TaskRun.objects.latest("pk")


def test_a_worker_that_does_not_know_the_task_leaves_the_run_to_another(task):
    task()
    run = firing.request_run("tests.task")
    declarations.declared.remove("tests.task")
    execute(run.pk)
    run.refresh_from_db()
    assert run.state == "queued"


def test_where_nothing_can_interrupt_a_late_run_is_recorded_as_timeout(task):
    seen = []

    def work(run: Run) -> None:
        while not run.cancelled:
            time.sleep(0.01)
        seen.append(run.expired)
        run.result(half=True)

    row = task(work, timeout=0.1)
    run = perform()
    row.refresh_from_db()
    assert (run.state, run.result) == ("timeout", {"half": True})
    assert seen == [True]
    assert row.last_state == "timeout"
    assert row.next_run_at is not None


def test_raise_if_cancelled_after_the_deadline_is_a_timeout(task):
    def work(run: Run) -> None:
        for _ in range(1000):
            run.raise_if_cancelled()
            time.sleep(0.01)

    task(work, timeout=0.1)
    assert perform().state == "timeout"


def test_a_process_that_is_told_to_end_leaves_an_interrupted_run(task):
    def work() -> None:
        raise SystemExit(0)

    row = task(work, seconds=3600)
    run = firing.request_run(row.name)
    with pytest.raises(SystemExit):
        execute(run.pk)
    run.refresh_from_db()
    row.refresh_from_db()
    assert (run.state, row.interruptions) == ("interrupted", 1)
    assert firing.seconds_until_due() <= 0.1


def test_progress_reaches_the_row_with_the_heartbeat_and_the_lease_is_kept(task):
    seen, go = [], threading.Event()

    def work(run: Run) -> None:
        run.progress(1, 2, "half")
        run.log("half way")
        go.wait(20)
        seen.append(run.cancelled)

    with override_koan(SCHEDULING={"LEASE": 1}):
        task(work)
        run = firing.request_run("tests.task")
        thread = threading.Thread(target=_and_close, args=(execute, run.pk))
        thread.start()
        try:
            rows = TaskRun.objects.filter(pk=run.pk)
            wait_until(lambda: rows.values_list("progress", flat=True).get(), what="progress")
            first = rows.values_list("lease_until", flat=True).get()
            wait_until(lambda: rows.values_list("lease_until", flat=True).get() > first, what="a renewal")
            wait_until(lambda: timezone.now() > first + timedelta(seconds=0.5), what="the first lease to be over")
            assert rows.alive().exists()
        finally:
            go.set()
            thread.join()
    run.refresh_from_db()
    assert (run.state, seen) == ("succeeded", [False])
    assert "half way" in run.log


def test_who_lost_the_lease_records_nothing(task, caplog):
    outcomes = []

    def work(run: Run) -> None:
        TaskRun.objects.filter(uuid=run.id).update(lease_token=run.fencing_token + 1, state="running")
        try:
            run.heartbeat()
        except LeaseLostError as error:
            outcomes.append(type(error))

    row = task(work)
    run = perform()
    row.refresh_from_db()
    assert run.state == "running"
    assert outcomes == [LeaseLostError]
    assert row.last_state == ""
    assert "lost its lease" in caplog.text


def test_a_result_that_is_too_large_says_so_and_odd_values_become_text(task):
    task(lambda run: run.result(text="x" * 5000), name="tests.large")
    task(lambda run: run.result(at=timezone.now(), password="hunter22"), name="tests.odd")
    assert "truncated" in perform("tests.large").result
    odd = perform("tests.odd").result
    assert isinstance(odd["at"], str)
    assert odd["password"] != "hunter22"


def test_the_log_of_a_run_is_bounded(task):
    task(lambda run: [run.log(f"line {number} " + "x" * 100) for number in range(1000)])
    run = perform()
    assert len(run.log) <= 8000
    assert "line 999" in run.log


def test_cancelled_runs_say_why(task):
    reasons = []

    def work(run: Run) -> None:
        run._lost = lambda: True
        try:
            run.raise_if_cancelled()
        except RunCancelledError as error:
            reasons.append(str(error))

    task(work)
    perform()
    assert "lease is lost" in reasons[0]
