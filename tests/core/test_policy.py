"""The policy version: raised by a change, looked at once a second, and the rows read only when it has changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from koan_django.core import environment, policy, telemetry
from koan_django.core.models import PolicyVersion
from koan_django.core.policy import MAX_AGE_SECONDS, PERIOD_SECONDS, Cached, Watch, announce
from koan_django.storage.models import StorageProfile
from tests.core.test_health import database_down

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave as in a process that serves: what is read is kept."""
    monkeypatch.setattr(policy, "under_test", lambda: False)
    policy.watch.forget()
    yield
    policy.watch.forget()


@pytest.fixture
def queries() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connections["default"]) as found:
        yield found


def version() -> int:
    return PolicyVersion.objects.values_list("version", flat=True).get(pk=1)


def profile(**values: Any) -> StorageProfile:
    row, _ = StorageProfile.objects.update_or_create(name="hot", defaults=values)
    return row


def test_a_change_raises_the_version_and_says_what_changed() -> None:
    row = profile()
    before = version()
    row.read_only = True
    row.save()
    assert version() == before + 1
    assert PolicyVersion.objects.get().what == "storageprofile hot"
    row.delete()
    assert version() == before + 2


def test_the_operations_of_scheduling_announce_themselves() -> None:
    pytest.importorskip("django_celery_beat", reason="Django is too new for beat")
    from koan_django.scheduling.models import ScheduledTask
    from koan_django.scheduling.operations import disable, enable, override_interval

    ScheduledTask.objects.create(name="x", trigger="every 1 h", interval=timedelta(hours=1))
    for change in (lambda: disable("x"), lambda: enable("x"), lambda: override_interval("x", timedelta(hours=2))):
        before = PolicyVersion.objects.filter(pk=1).values_list("version", flat=True).first() or 0
        change()
        assert version() == before + 1
    assert PolicyVersion.objects.get().what == "scheduledtask x"


def test_a_change_that_is_rolled_back_raises_nothing() -> None:
    announce("x")
    before = version()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        announce("y")
        1 / 0  # noqa: B018
    assert (version(), PolicyVersion.objects.get().what) == (before, "x")


@pytest.mark.usefixtures("serving")
class TestCached:
    def test_a_thousand_questions_in_a_second_are_one_query_of_the_version(self, clock: Clock, queries: Any) -> None:
        loads: list[int] = []
        rows = Cached(lambda: loads.append(1), watch=Watch(clock))
        rows()
        assert (len(queries), len(loads)) == (1, 1)
        for _ in range(1023):
            clock.now += PERIOD_SECONDS / 1024
            rows()
        assert (len(queries), len(loads)) == (1, 1)
        clock.now += PERIOD_SECONDS / 1024
        rows()
        assert (len(queries), len(loads)) == (2, 1)

    def test_a_change_elsewhere_is_seen_at_the_next_look(self, clock: Clock) -> None:
        seen: list[telemetry.Event] = []
        end = telemetry.subscribe(seen.append, "core.policy_changed")
        rows = Cached(lambda: StorageProfile.objects.get(name="hot").read_only, watch=Watch(clock))
        profile(read_only=False)
        assert rows() is False
        profile(read_only=True)
        assert rows() is False  # within the second
        clock.now += PERIOD_SECONDS
        assert rows() is True
        end()
        assert [event.metadata["what"] for event in seen] == ["storageprofile hot"]

    def test_the_process_that_changes_sees_it_at_once(self) -> None:
        rows = Cached(lambda: StorageProfile.objects.get(name="hot").read_only)
        profile(read_only=False)
        assert rows() is False
        profile(read_only=True)
        assert rows() is True

    def test_a_change_that_nobody_announced_counts_in_the_end(self, clock: Clock) -> None:
        profile(read_only=False)
        rows = Cached(lambda: StorageProfile.objects.get(name="hot").read_only, watch=Watch(clock))
        assert rows() is False
        StorageProfile.objects.update(read_only=True)  # past the signals
        clock.now += MAX_AGE_SECONDS - 0.1
        assert rows() is False
        clock.now += 0.1
        assert rows() is True

    def test_without_the_database_the_last_answer_stands(self, clock: Clock) -> None:
        rows = Cached(lambda: 7, watch=Watch(clock))
        assert rows() == 7
        clock.now += PERIOD_SECONDS
        with database_down():
            assert rows() == 7


def test_under_test_nothing_is_kept() -> None:
    loads: list[int] = []
    rows = Cached(lambda: loads.append(1))
    rows()
    rows()
    assert len(loads) == 2
    assert environment.under_test()
