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

    @rule()
    def appear(self):
        self.declare(work, name=NAME, seconds=3600, on_startup=True, max_concurrency=self.concurrency)
        sync()

    @rule()
    def vanish(self):
        declarations.declared.remove(NAME)
        sync()

    @rule()
    def time_passes(self):
        ScheduledTask.objects.filter(next_run_at__isnull=False).update(next_run_at=timezone.now())

    @rule()
    def fire(self):
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
    @rule(state=st.sampled_from([RunState.SUCCEEDED, RunState.FAILED, RunState.TIMEOUT, RunState.INTERRUPTED]))
    def end(self, state):
        pk, held = self.held.popitem()
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

    @rule(name=st.sampled_from(["enable", "disable"]))
    def switch(self, name):
        try:
            getattr(operations, name)(NAME)
        except UnknownTaskError:
            assert self.task.gone

    @rule(interval=st.sampled_from([None, timedelta(seconds=5)]))
    def override(self, interval):
        try:
            operations.override_interval(NAME, interval)
        except UnknownTaskError:
            assert self.task.gone

    @invariant()
    def no_more_run_than_may(self):
        assert TaskRun.objects.alive().count() <= self.concurrency

    @invariant()
    def the_schedule_never_overlaps_itself(self):
        scheduled = TaskRun.objects.under_way().exclude(trigger="manual").count()
        assert scheduled <= 1
        assert not (scheduled and self.task.next_run_at)

    @invariant()
    def what_is_off_is_not_planned(self):
        task = self.task
        assert (task.enabled and not task.gone) or task.next_run_at is None

    @invariant()
    def what_is_over_has_an_end_and_no_lease(self):
        over = TaskRun.objects.exclude(state__in=["queued", "running"])
        assert not over.filter(finished_at=None).exists()
        assert not over.filter(lease_until__isnull=False).exists()

    @invariant()
    def tokens_rise(self):
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
                max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        dispatch.use(before)
