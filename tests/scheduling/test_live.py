"""Live beats and workers, on the embedded defaults: Celery on folders."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection

from koan_django.core.models import HealthFact
from koan_django.scheduling.models import ScheduledTask, TaskRun
from tests.services import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).parents[2]
CELERY = [sys.executable, "-m", "celery", "-A", "tests.scheduling.project"]


class Site:
    """A project with its folder, whose processes use the database of the test."""

    def __init__(self, folder: Path, process, database):
        self.folder = folder
        self._process = process
        for name in ("queue", "control"):
            (folder / name).mkdir()
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.scheduling.project.settings",
            "KOAN_SCHEDULING_DIR": str(folder),
            "KOAN_SCHEDULING_DATABASE": json.dumps(database),
        }

    def beat(self):
        return self._start("beat", [*CELERY, "beat", "-l", "info"], "beat: Starting")

    def worker(self, *options):
        return self._start("worker", [*CELERY, "worker", "-c", "4", "-l", "info", *options], "ready")

    def manage(self, *arguments):
        made = self._process("manage", [sys.executable, "manage.py", *arguments], env=self.env, cwd=ROOT)
        assert made.wait(60) == 0, made.tail()
        return made.output

    def _start(self, name, argv, says):
        made = self._process(name, argv, env=self.env, cwd=ROOT)
        made.expect(says, timeout=60)
        return made

    def deeds(self, word):
        file = self.folder / "runs.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(word)]

    def waiting(self):
        """The arguments of the messages that wait for a worker."""
        for message in (self.folder / "queue").glob("*.msg"):
            yield json.loads(base64.b64decode(json.loads(message.read_text())["body"]))[0]

    def lose_messages(self):
        for message in (self.folder / "queue").iterdir():
            message.unlink(missing_ok=True)


@pytest.fixture
def site(process, tmp_path):
    return Site(tmp_path, process, {"NAME": connection.settings_dict["NAME"]})


def runs(name, *states):
    found = TaskRun.objects.filter(task__name=name).order_by("pk")
    return found.in_state(*states) if states else found


def until(name, state, timeout=40):
    """Wait for a run of ``name`` in ``state`` and return it."""
    return wait_until(lambda: runs(name, state).first(), timeout, f"a run of {name} to be {state}")


@pytest.mark.database
def test_two_beats_fire_each_tick_once_and_every_run_is_recorded(site):
    beats = [site.beat(), site.beat()]
    worker = site.worker()
    wait_until(lambda: runs("project.second", "succeeded").count() >= 8, 60, "eight runs")
    for beat in beats:
        assert beat.stop() == 0
    wait_until(lambda: not TaskRun.objects.under_way().exists(), 20, "the last run to end")
    worker.stop()

    recorded = list(runs("project.second"))
    assert {run.state for run in recorded} == {"succeeded"}
    assert sorted(line.split()[1] for line in site.deeds("second")) == sorted(str(run.uuid) for run in recorded)
    pauses = [(later.started_at - earlier.finished_at).total_seconds() for earlier, later in pairwise(recorded)]
    assert min(pauses) >= 0.95  # a fixed delay, from the end
    assert sorted(pauses)[len(pauses) // 2] < 5
    assert len(site.deeds("startup")) == 1
    assert not HealthFact.objects.filter(name="scheduling.beat").exists()  # they said goodbye


@pytest.mark.database
def test_a_worker_killed_in_mid_run_leaves_an_interrupted_run_and_another_repeats_it(site):
    site.beat()
    worker = site.worker()
    site.manage("shell", "-c", "from koan_django.scheduling.operations import run_now; run_now('project.slow')")
    until("project.slow", "running")
    wait_until(lambda: runs("project.slow").get().progress, 20, "its progress")
    worker.kill()
    first = until("project.slow", "interrupted")
    queued = until("project.slow", "queued")
    wait_until(lambda: [queued.pk] in site.waiting(), 20, "its message")
    site.lose_messages()
    site.worker()
    second = until("project.slow", "succeeded")
    assert (second.attempt, second.trigger) == (2, "catch-up")
    assert second.sends > 1  # its first message was lost
    assert [line.split()[2] for line in site.deeds("slow")] == ["1", "2"]
    assert first.lease_token < second.lease_token
    assert ScheduledTask.objects.get(name="project.slow").interruptions == 0


def test_time_limits_end_a_run_and_a_warm_shutdown_does_not(site):
    site.beat()
    worker = site.worker()
    names = "'project.late', 'project.stubborn', 'project.steady'"
    program = f"from koan_django.scheduling.operations import run_now; [run_now(name) for name in ({names})]"
    site.manage("shell", "-c", program)
    late = until("project.late", "timeout")
    assert timedelta(seconds=0.5) <= late.duration < timedelta(seconds=5)  # it is late to write down its start
    assert "SoftTimeLimitExceeded" in late.traceback
    until("project.steady", "succeeded")
    stubborn = until("project.stubborn", "timeout")
    assert stubborn.finished_at - stubborn.started_at > timedelta(seconds=10)
    assert "Hard time limit" in worker.output

    site.manage("shell", "-c", "from koan_django.scheduling.operations import run_now; run_now('project.steady')")
    wait_until(lambda: len(site.deeds("steady began")) == 2, 20, "the second steady run")
    worker.send(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert len(site.deeds("steady ended")) == 2
    assert [run.state for run in runs("project.steady")] == ["succeeded", "succeeded"]


def test_beat_and_worker_outlive_an_outage_of_the_database(postgres, postgres_database, process, tmp_path):
    import psycopg

    name = postgres_database.rpartition("/")[2]
    site = Site(tmp_path, process, {"NAME": name})
    site.env["KOAN_TEST_DATABASE_URL"] = postgres_database
    site.manage("migrate", "-v0")
    beat, worker = site.beat(), site.worker()
    wait_until(lambda: len(site.deeds("second")) >= 2, 40, "two runs")
    with psycopg.connect(postgres.dsn, autocommit=True) as control:
        control.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        control.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        beat.expect("could not reach the database", timeout=20)
        control.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    so_far = len(site.deeds("second"))
    wait_until(lambda: len(site.deeds("second")) >= so_far + 3, 40, "three more runs")
    assert beat.running
    assert worker.running
