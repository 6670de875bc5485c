"""``@scheduled``: what it takes, what it refuses, and how tasks are named."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from datetime import datetime, timedelta

import pytest
from celery import Celery, shared_task
from django.core import checks
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.exceptions import KoanError
from koan_django.scheduling import Every, Run, SchedulingError, scheduled
from koan_django.scheduling.declarations import declared, kebab
from koan_django.scheduling.triggers import LONGEST, SHORTEST


def check_health(run: Run) -> None: ...


class NightlyExport:
    def run(self) -> None: ...


def test_a_target_comes_back_unchanged_and_stays_callable(declare):
    def double() -> None:
        called.append(True)

    called = []
    assert declare(double) is double
    double()
    assert called == [True]
    assert declare(NightlyExport) is NightlyExport


@pytest.mark.parametrize(("target", "name"), [(check_health, "check-health"), (NightlyExport, "nightly-export")])
def test_a_name_is_the_label_and_the_name_in_kebab_case(declare, target, name):
    declare(target)
    label = target.__module__.partition(".")[0]
    assert declared[f"{label}.{name}"].target is target


def test_one_target_with_two_triggers_is_told_by_a_check(declare):
    declare(check_health, seconds=5, name="tests.twice")
    declare(check_health, seconds=7, name="tests.twice")
    declare(check_health, seconds=7, name="tests.other")
    [error] = [each for each in checks.run_checks() if each.id == "koan_scheduling.E002"]
    assert error.msg == "the scheduled task 'tests.twice' has two triggers"
    assert "check_health, line " in error.hint


def test_two_functions_of_one_name_are_told_by_a_check(declare):
    def task() -> None: ...

    declare(task, name="tests.twice")

    def task() -> None: ...

    declare(task, name="tests.twice")
    [error] = [each for each in checks.run_checks() if each.id == "koan_scheduling.E002"]
    assert error.msg == "the scheduled task 'tests.twice' is defined twice"


def test_inside_an_app_the_label_of_the_app_is_used(declare):
    target = type("Probe", (), {"__module__": "koan_django.core.anything", "run": lambda self: None})
    declare(target)
    assert "koan_core.probe" in declared


@pytest.mark.parametrize(
    ("name", "expected"),
    [("health_check", "health-check"), ("HTTPProbe", "http-probe"), ("_private", "private"), ("Run2Days", "run2-days")],
)
def test_kebab_case(name, expected):
    assert kebab(name) == expected


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,30}", fullmatch=True).filter(lambda name: name.strip("_")))
def test_kebab_case_is_lower_and_stays_as_it_is(name):
    once = kebab(name)
    assert once == once.lower() == kebab(once)


def test_a_function_is_told_its_run_only_if_it_wants_it(declare):
    def wants(run: Run) -> None: ...
    def wants_nothing() -> None: ...
    def has_defaults(limit: int = 3) -> None: ...

    for target, expected in ((wants, True), (wants_nothing, False), (has_defaults, False)):
        declare(target, name="tests.one")
        assert declared["tests.one"].takes_run is expected
        declared.remove("tests.one")


class NeedsArguments:
    def __init__(self, path: str) -> None: ...
    def run(self) -> None: ...


class HasNoRun: ...


def lazy_task():
    @shared_task(name=f"tests.shared-{uuid.uuid4()}")
    def shared() -> None: ...

    return shared


def real_task():
    @Celery(set_as_current=False).task(name="tests.real", lazy=False)
    def real() -> None: ...

    return real


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lambda run, other: None, "other"),
        (lambda: NeedsArguments, "without arguments"),
        (lambda: HasNoRun, "no run()"),
        (lazy_task, "below @shared_task"),
        (real_task, "only a function or a class"),
        (lambda: print, "only a function or a class"),
        (lambda: 3, "only a function or a class"),
    ],
)
def test_what_cannot_be_run_is_refused_with_a_reason(make, says):
    with pytest.raises(SchedulingError, match=re.escape(says)):
        scheduled(Every(seconds=5), name="tests.refused")(make())
    assert "tests.refused" not in declared


def test_refusing_a_lazy_celery_task_does_not_bind_it_to_an_app():
    lazy = lazy_task()
    with pytest.raises(SchedulingError):
        scheduled(Every(seconds=5))(lazy)
    with pytest.raises(AttributeError):
        object.__getattribute__(lazy, "__thing")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": timedelta(seconds=-1)},
        {"max_concurrency": 0},
        {"max_concurrency": True},
        {"max_concurrency": 1.5},
        {"name": "Not A Name"},
        {"name": ""},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(SchedulingError):
        scheduled(Every(seconds=5), **options)


def test_a_number_is_no_trigger():
    with pytest.raises(SchedulingError, match="Every"):
        scheduled(30)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, 0.5, LONGEST.total_seconds() + 1])
def test_an_interval_outside_the_bounds_is_refused(seconds):
    with pytest.raises(KoanError, match="between"):
        Every(seconds=seconds)


@given(st.timedeltas(SHORTEST, LONGEST), st.datetimes(max_value=datetime(3000, 1, 1)))
def test_every_is_a_fixed_delay_from_the_end(interval, finished):
    every = Every(seconds=interval.total_seconds())
    assert abs(every.following(finished) - finished - interval) < timedelta(milliseconds=1)
    assert every.following(finished) > finished
    assert str(every).startswith("every ")


def test_every_adds_its_units_up():
    assert Every(weeks=1, days=1, hours=1, minutes=1, seconds=1).interval == timedelta(days=8, seconds=3661)
    assert str(Every(hours=1, minutes=30)) == "every 1 h 30 min"
    assert str(Every(seconds=90.5)) == "every 1 min 30.5 s"


def test_two_places_with_one_name_are_a_check_error_that_names_both(declare):
    declare(check_health, name="tests.same")
    declare(NightlyExport, name="tests.same")
    found = [each for each in checks.run_checks() if each.id == "koan_scheduling.E002"]
    assert len(found) == 1
    assert "check_health" in found[0].hint
    assert "NightlyExport" in found[0].hint
    assert declared["tests.same"].target is check_health


def test_the_same_place_may_declare_again(declare):
    """As a reload does, which makes another function at the same place."""
    for seconds in (5, 7):

        def task() -> None: ...

        declare(task, name="tests.again", seconds=seconds)
    assert declared["tests.again"].trigger == Every(seconds=7)
    assert not [each for each in checks.run_checks() if each.id == "koan_scheduling.E002"]


def test_the_face_needs_no_settings():
    program = "from koan_django.scheduling import Every, Run, scheduled; scheduled(Every(seconds=1))(lambda: None)"
    subprocess.run([sys.executable, "-c", program], check=True, env={"PATH": ""})
