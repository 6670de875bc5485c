"""Whatever happens in whatever order, the rows keep their promises."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from koan_django.core import dispatch
from koan_django.scheduling import declarations, firing, operations, sweeping
from koan_django.scheduling.beginning import begin
from koan_django.scheduling.concluding import Outcome, finish
from koan_django.scheduling.exceptions import BusyError, UnknownTaskError
from koan_django.scheduling.models import RunState, ScheduledTask, TaskRun
from koan_django.scheduling.syncing import sync

NAME = "tests.states"
ENDS = (RunState.SUCCEEDED, RunState.FAILED, RunState.TIMEOUT, RunState.INTERRUPTED)


class Nowhere:
    def send(self, *args):
        pass


class Life(RuleBasedStateMachine):
    """One task, its runs, and everybody who has to do with them."""

    concurrency = 1
    declare = staticmethod(lambda *args, **kwargs: None)

    def __init__(self):
        super().__init__()
        ScheduledTask.objects.all().delete()
        self.held = {}
        self.tokens = []
        self.appear()

    @property
    def task(self):
        return ScheduledTask.objects.get(name=NAME)

    def appear(self):
        self.declare(work, name=NAME, seconds=3600, on_startup=True, max_concurrency=self.concurrency)
        sync()

    def vanish(self):
        declarations.declared.remove(NAME)
        sync()

    @rule()
    def a_beat_ticks_when_it_is_time(self):
        past = timezone.now() - timedelta(seconds=1)  # clocks differ in their resolution
        ScheduledTask.objects.filter(next_run_at__isnull=False).update(next_run_at=past)
        firing.fire_due()

    @rule()
    def start_a_beat(self):
        firing.fire_startup()

    @rule()
    def ask_for_a_run(self):
        try:
            firing.request_run(NAME)
        except (BusyError, UnknownTaskError):
            assert self.task.gone or TaskRun.objects.under_way().count() >= self.concurrency

    @rule(twice=st.booleans())
    def deliver(self, twice):
        for run in TaskRun.objects.in_state("queued").select_related("task"):
            held = begin(run)
            if held is not None:
                self.held[run.pk] = held
                self.tokens.append(held.token)
            if twice:
                assert begin(run) is None

    @precondition(lambda self: self.held)
    @rule(state=st.sampled_from(ENDS), data=st.data())
    def end(self, state, data):
        pk = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(pk)
        run = TaskRun.objects.select_related("task").get(pk=pk)
        alive = TaskRun.objects.alive().filter(pk=pk, lease_token=held.token).exists()
        assert finish(run, held, Outcome(state), 0.1, {}) is alive
        run.refresh_from_db()
        assert (run.state == state) or not alive

    @rule()
    def workers_die(self):
        TaskRun.objects.in_state("running").update(lease_until=Now() - timedelta(seconds=1))

    @rule()
    def sweep(self):
        sweeping.sweep()
        task = self.task
        if task.enabled and not task.gone and not TaskRun.objects.under_way().exists():
            assert task.next_run_at is not None

    @rule(what=st.sampled_from(["appear", "vanish", "enable", "enable", "disable", "hurry", "relax"]))
    def somebody_changes_it(self, what):
        intervals = {"hurry": timedelta(seconds=5), "relax": None}
        if what in ("appear", "vanish"):
            getattr(self, what)()
            return
        try:
            if what in intervals:
                operations.override_interval(NAME, intervals[what])
            else:
                getattr(operations, what)(NAME)
        except UnknownTaskError:
            assert self.task.gone

    @invariant()
    def the_rows_keep_their_promises(self):
        task = self.task
        assert TaskRun.objects.alive().count() <= self.concurrency
        under_way = list(TaskRun.objects.under_way())
        scheduled = [run for run in under_way if run.trigger != "manual"]
        assert len(scheduled) <= 1, "the schedule overlaps itself"
        assert not (scheduled and task.next_run_at), "a task that is under way is planned"
        assert (task.enabled and not task.gone) or task.next_run_at is None, "a task that is off is planned"

    def teardown(self):
        over = TaskRun.objects.exclude(state__in=["queued", "running"])
        assert not over.filter(finished_at=None).exists()
        assert not over.filter(lease_until__isnull=False).exists()
        assert self.tokens == sorted(set(self.tokens))


def work() -> None: ...


@pytest.mark.database
@pytest.mark.django_db
@pytest.mark.parametrize("concurrency", [1, 2])
def test_any_order_of_events(declare, concurrency):
    before = dispatch.use(Nowhere())
    try:
        machine = type("Life", (Life,), {"concurrency": concurrency, "declare": staticmethod(declare)})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        dispatch.use(before)
