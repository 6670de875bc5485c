"""``manage.py koan_scheduling``."""

from __future__ import annotations

import json
import signal
from io import StringIO

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import TestCase

from koan_django.scheduling import Cron, Every, Run, declarations, firing, operations, scheduled
from koan_django.scheduling.models import TaskRun

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def call(*arguments):
    out = StringIO()
    try:
        call_command("koan_scheduling", *arguments, stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def work(run: Run) -> None:
    run.result(done=3)


def fail() -> None:
    raise ValueError("no")


def test_a_task_runs_here_and_its_record_is_printed(task):
    task(work)
    code, out = call("run", "tests.task", "--format", "json")
    record = json.loads(out)
    assert code == 0
    assert (record["task"], record["state"], record["trigger"]) == ("tests.task", "succeeded", "manual")
    assert record["result"] == {"done": 3}
    assert record["uuid"] == str(TaskRun.objects.get().uuid)
    assert call("run", "tests.task") == (0, "tests.task: succeeded\n")


def test_exit_codes_tell_failure_busy_and_unknown(task):
    task(fail)
    code, out = call("run", "tests.task")
    assert (code, out) == (1, "tests.task: failed ValueError: no\n")
    assert call("run", "tests.unknown")[0] == 2
    firing.request_run("tests.task")
    code, out = call("run", "tests.task")
    assert code == 3
    assert "under way" in out


def test_list_shows_each_task_as_rows_have_it(declare):
    declare(work, name="tests.listed", seconds=90)  # the command writes the rows itself
    code, out = call("list", "--format", "json")
    (listed,) = [each for each in json.loads(out) if each["name"] == "tests.listed"]
    assert code == 0
    assert (listed["schedule"], listed["enabled"]) == ("every 1 min 30 s", True)
    assert "tests.listed  every 1 min 30 s" in call("list")[1]


def test_list_shows_a_line_of_cron_with_its_zone_and_what_is_in_force(declare):
    declare(work, name="tests.nightly", trigger=Cron("0 3 * * *", timezone="Europe/Madrid"), misfire="skip")
    call("list")
    operations.override_cron("tests.nightly", "0 4 * * *")
    (listed,) = [each for each in json.loads(call("list", "--format", "json")[1]) if each["name"] == "tests.nightly"]
    assert (listed["trigger"], listed["schedule"]) == ("0 3 * * * Europe/Madrid", "0 4 * * * Europe/Madrid")
    assert (listed["misfire"], listed["drifted"]) == ("skip", True)
    assert "tests.nightly  0 4 * * * Europe/Madrid  next: 20" in call("list")[1]


class InATestCase(TestCase):
    """Its transaction is open all the time, on a connection that nobody may close."""

    def test_a_task_runs_and_what_it_did_stays_until_the_end_of_the_test(self) -> None:
        kept = dict(declarations.declared._items)
        scheduled(Every(minutes=5), name="tests.task")(lambda: Group.objects.create(name="made"))
        try:
            self.assertEqual(call("run", "tests.task"), (0, "tests.task: succeeded\n"))
        finally:
            declarations.declared._items = kept
        self.assertTrue(Group.objects.filter(name="made").exists())
        self.assertEqual(TaskRun.objects.get().state, "succeeded")
