"""Points where something goes wrong when a test says so, and nothing else happens when none does."""

from __future__ import annotations

import re
import time
from pathlib import Path
from unittest import mock

import pytest
from django.db import OperationalError

import koan_django
from koan_django.core import dispatch, faults
from koan_django.messaging import send_many
from koan_django.messaging.handling.invocation import handle
from koan_django.messaging.models import MessageEvent, OutboxMessage, QueuedDelivery
from koan_django.messaging.outgoing.outbox import store
from koan_django.messaging.outgoing.sending import wrap
from koan_django.testing import fault
from koan_django.testing import faults as kit
from tests.messaging.conftest import use_bus  # noqa: F401  # a fixture
from tests.messaging.shop import OrderPlaced, ThreadPool, listening

PACKAGE = Path(koan_django.__file__).parent
ONE = "messaging.handle.committed"


def test_the_kit_lists_the_points_that_the_code_passes_and_each_is_passed() -> None:
    written = re.compile(r'^(\w+) = faults\.point\("([a-z_.]+)"\)$', re.MULTILINE)
    found = {}
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    for path, text in texts.items():
        for variable, name in written.findall(text):
            assert name not in found
            found[name] = path
            who = [text] if variable.startswith("_") else texts.values()
            assert any(f"{variable}()" in each for each in who), f"{path} declares {name} and nobody passes it"
    assert set(found) == set(kit.POINTS)


def test_it_strikes_as_often_as_it_is_told_to() -> None:
    point = faults.point(ONE)
    with fault(ONE, error=KeyError, skip=1, times=2) as armed:
        point()
        for _ in range(2):
            with pytest.raises(KeyError):
                point()
        point()
        assert (armed.passed, armed.struck) == (4, 2)
    point()
    assert (armed.passed, point.action) == (4, None)


def test_it_may_wait_and_it_may_strike_always() -> None:
    with fault(ONE, delay=0.01, times=None) as armed:
        began = time.monotonic()
        for _ in range(3):
            faults.point(ONE)()
        assert time.monotonic() - began >= 0.03
        assert armed.struck == 3


def test_the_inner_one_counts_and_the_outer_one_comes_back() -> None:
    with fault(ONE, error=KeyError, times=None), fault(ONE, error=OSError), pytest.raises(OSError):
        faults.point(ONE)()
    with fault(ONE, error=KeyError):
        with fault(ONE, error=ValueError):
            pass
        with pytest.raises(KeyError):
            faults.point(ONE)()


def test_what_cannot_be_armed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no fault point.*did you mean 'messaging.handle.committed'"):
        fault("messaging.handle.comitted", kill=True).__enter__()
    for wrong in ({}, {"kill": True, "delay": 1.0}, {"error": KeyError, "kill": True}):
        with pytest.raises(ValueError, match="give one of"):
            fault(ONE, **wrong).__enter__()
    with pytest.raises(ValueError, match="no fault point"):
        kit.environment("no.such.point")


def test_another_process_is_armed_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kit.VARIABLE, kit.environment("storage.local.replaced", skip=3)[kit.VARIABLE])
    kit.arm_from_environment()
    armed = faults.arm("storage.local.replaced", None)
    assert isinstance(armed, kit.Fault)
    assert (armed.kill, armed.skip) == (True, 3)


# our own promises, by it


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_a_fault_before_the_commit_of_the_outbox_leaves_nothing(use_bus) -> None:  # noqa: F811
    use_bus("memory://")
    with listening(OrderPlaced, group="billing"):
        envelope = wrap(OrderPlaced(1), "main")
    with fault("messaging.outbox.before_commit", error=OperationalError("gone")), pytest.raises(OperationalError):
        store("main", [envelope], None)
    assert not OutboxMessage.objects.exists()
    assert not MessageEvent.objects.exists()


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("point", "verdicts", "handled"),
    [
        ("messaging.handle.before_commit", ["retry", "handled"], 1),  # undone, and done again
        ("messaging.handle.committed", ["retry", "postpone"], 1),  # done, and its row is gone
    ],
)
def test_a_handler_around_its_commit_is_undone_or_done_once(use_bus, point, verdicts, handled) -> None:  # noqa: F811
    bus = use_bus("database://")
    with listening(OrderPlaced, group="billing"):
        send_many([OrderPlaced(1)])
        consumer = bus.consumer(ThreadPool(1))
        (taken,) = consumer.fetch("billing", 1)
        with fault(point, error=OperationalError("the connection broke")):
            outcomes = [handle("main", "billing", [taken])[0].outcome for _ in range(2)]
    assert outcomes == verdicts
    assert MessageEvent.objects.filter(kind="handled").count() == handled
    assert not QueuedDelivery.objects.exists()


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_a_run_that_was_committed_and_not_sent_is_sent_by_the_sweep() -> None:
    pytest.importorskip("django_celery_beat")
    from django.utils import timezone

    from koan_django.scheduling import Every, declarations, firing, scheduled, sweeping
    from koan_django.scheduling.models import ScheduledTask
    from koan_django.scheduling.syncing import sync
    from koan_django.testing import frozen_clock

    kept = dict(declarations.declared._items)
    ran = []
    scheduled(Every(hours=1), name="tests.faults")(lambda: ran.append(1))
    try:
        sync()
        ScheduledTask.objects.update(next_run_at=timezone.now())
        with frozen_clock() as clock, mock.patch.object(dispatch, "_dispatcher", dispatch.InlineDispatcher()):
            with fault("scheduling.fire.before_commit", error=OperationalError), pytest.raises(OperationalError):
                firing.fire_due()
            with fault("scheduling.fire.committed", error=OperationalError), pytest.raises(OperationalError):
                firing.fire_due()
            assert firing.fire_due() == 0
            assert ran == []
            clock.advance(seconds=11)
            sweeping.sweep()
        assert ran == [1]
    finally:
        declarations.declared._items = kept
