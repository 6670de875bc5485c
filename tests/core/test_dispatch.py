"""Jobs are sent after the commit, in the context of their caller, and never break it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from koan_django.core import dispatch
from koan_django.core.context import correlation, tenant
from koan_django.core.dispatch import Job, job, jobs
from koan_django.core.exceptions import RegistrationError
from koan_django.core.models import Lease
from koan_django.core.telemetry import Event, subscribe

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _cleaned() -> Iterator[None]:
    """Take back what a test declared."""
    before, watchers = set(jobs.names()), list(dispatch._watchers)
    used = dispatch.use(dispatch.InlineDispatcher())
    yield
    dispatch.use(used)
    dispatch._watchers[:] = watchers
    for name in set(jobs.names()) - before:
        jobs.remove(name)


@pytest.fixture
def ran() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def note(ran: list[tuple[Any, ...]]) -> Job[...]:
    """A job that notes its arguments and its context."""

    @job("koan_test.note")
    def note(*args: Any, **kwargs: Any) -> None:
        ran.append((args, kwargs, tenant.current(), correlation.current()))

    return note


def test_a_job_runs_after_the_commit_of_the_outermost_transaction(note: Job[...], ran: list[Any]) -> None:
    with transaction.atomic():
        with transaction.atomic():
            note.dispatch(1, key=2)
        assert ran == []
    assert ran == [((1,), {"key": 2}, None, None)]


def test_outside_a_transaction_it_runs_at_once(note: Job[...], ran: list[Any]) -> None:
    note.dispatch(1)
    assert len(ran) == 1


def test_a_rollback_sends_nothing(note: Job[...], ran: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        note.dispatch(1)
        1 / 0  # noqa: B018
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            note.dispatch(2)
            1 / 0  # noqa: B018
        note.dispatch(3)
    assert [args for args, *_ in ran] == [(3,)]


def test_it_sees_what_was_committed(ran: list[Any]) -> None:
    @job("koan_test.look")
    def look(pk: int) -> None:
        ran.append(Lease.objects.get(pk=pk).name)

    with transaction.atomic():
        look.dispatch(Lease.objects.create(name="committed").pk)
    assert ran == ["committed"]


def test_it_runs_in_the_context_of_its_dispatch(note: Job[...], ran: list[Any]) -> None:
    with transaction.atomic(), tenant.use("later"), tenant.use("acme"), correlation.use("c-1"):
        note.dispatch()
    assert ran == [((), {}, "acme", "c-1")]


def test_a_failure_is_logged_and_breaks_neither_the_caller_nor_the_jobs_after_it(
    note: Job[...], ran: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    @job("koan_test.fail")
    def fail() -> None:
        raise RuntimeError("inside the job")

    with transaction.atomic():
        Lease.objects.create(name="kept")
        fail.dispatch()
        note.dispatch()
    fail.dispatch()
    assert Lease.objects.filter(name="kept").exists()
    assert len(ran) == 1
    assert caplog.text.count("The job koan_test.fail failed; its sweep tries again") == 2


class Recording:
    """Sends nothing, notes everything."""

    def __init__(self, *, broken: bool = False) -> None:
        self.sent: list[tuple[str, tuple[Any, ...], dict[str, Any], dict[str, str]]] = []
        self.broken = broken

    def send(self, job: Job[...], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Mapping[str, str]) -> None:
        if self.broken:
            raise ConnectionError("no broker")
        self.sent.append((job.name, args, dict(kwargs), dict(context)))


def test_another_dispatcher_takes_over_and_is_given_the_context(note: Job[...], ran: list[Any]) -> None:
    recording = Recording()
    before = dispatch.use(recording)
    with tenant.use("acme"):
        note.dispatch(1, key=2)
    assert dispatch.use(before) is recording
    assert recording.sent == [("koan_test.note", (1,), {"key": 2}, {"tenant": "acme"})]
    assert ran == []


@pytest.mark.parametrize("inside", [True, False])
def test_a_dispatcher_that_cannot_send_breaks_no_committed_caller(
    note: Job[...], caplog: pytest.LogCaptureFixture, inside: bool
) -> None:
    dispatch.use(Recording(broken=True))
    if inside:
        with transaction.atomic():
            Lease.objects.create(name="kept")
            note.dispatch(1)
    else:
        Lease.objects.create(name="kept")
        note.dispatch(1)
    assert Lease.objects.filter(name="kept").exists()
    assert "The job koan_test.note could not be sent; its sweep makes up for it" in caplog.text


def test_a_call_runs_here_and_now_and_raises(ran: list[Any]) -> None:
    @job("koan_test.direct")
    def direct(number: int) -> None:
        ran.append(number)
        raise ValueError("straight")

    events: list[Event] = []
    end = subscribe(events.append, "core.job")
    try:
        with pytest.raises(ValueError, match="straight"), transaction.atomic():
            direct(1)
    finally:
        end()
    assert ran == [1]
    assert [(event.phase, event.metadata) for event in events] == [
        (phase, {"job": "koan_test.direct"}) for phase in ("start", "exception")
    ]


def test_a_name_belongs_to_one_function(note: Job[...]) -> None:
    with pytest.raises(RegistrationError, match=r"the job 'koan_test\.note' is defined twice"):

        @job("koan_test.note")
        def another() -> None:
            """Another function."""


def test_watchers_hear_of_jobs_old_and_new(note: Job[...]) -> None:
    heard: list[str] = []
    dispatch.watch(lambda made: heard.append(made.name))
    assert "koan_test.note" in heard

    @job("koan_test.sweep", every=timedelta(minutes=1))
    def sweep() -> None:
        """Swept now and then."""

    assert heard[-1] == "koan_test.sweep"
    assert sweep.every == timedelta(minutes=1)
