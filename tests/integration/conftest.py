"""Live Celery workers, which share the database of the test."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import Group
from django.db import connection

from koan_django.core.guard import signal_group
from koan_django.messaging import handlers
from koan_django.messaging.buses import registry
from koan_django.messaging.models import MessageEvent
from koan_django.testing import override_koan
from tests.services.fixtures import StartProcess
from tests.services.plugin import evidence
from tests.services.process import Process
from tests.services.waiting import wait_until

ROOT = Path(__file__).parents[2]

if django.VERSION < (6, 0):
    collect_ignore = ["test_django_tasks.py"]


class Live:
    """A project with its folder. ``use`` says on which bus and broker it runs; the test itself sends on that bus."""

    def __init__(self, folder: Path, process: StartProcess) -> None:
        self.folder = folder
        self._process = process
        self._settings: dict[str, Any] = {}
        self._override: Any = None
        self._workers: list[Process] = []
        for name in ("queue", "control"):
            (folder / name).mkdir()

    def use(
        self,
        bus: str,
        broker: str = "filesystem://",
        drain: float = 20,
        tasks: Mapping[str, Any] | None = None,
        results: str | None = None,
        inbox: Mapping[str, Any] | None = None,
        limits: tuple[float, float] = (1.5, 3),
        **options: Any,
    ) -> None:
        """Run on ``bus``, with Celery on ``broker``. ``drain`` is how many seconds a warm stop waits.

        ``limits`` are the soft and the hard one, in seconds, of handlers that are told to be trouble.

        With ``tasks``, the options of a bus, tasks reach Celery by the outbox; their results are kept in ``results``.
        With ``inbox`` the workers have other options of the inbox.
        """
        retry = {"FIRST_DELAY": 0.2, "FACTOR": 1, "MAX_DELAY": 0.2, "MAX_ATTEMPTS": 3, "JITTER": 0}
        usual = {"URL": bus, "PREFIX": f"l{uuid.uuid4().hex[:6]}", "LEASE": 2, "POLL_INTERVAL": 0.02, "RETRY": retry}
        buses = {"main": usual | options} | ({} if tasks is None else {"tasks": {"URL": "celery://", **tasks}})
        messaging = {"BUSES": buses, "DRAIN_TIMEOUT": drain}
        self._settings = {
            "folder": str(self.folder),
            "database": {"NAME": str(connection.settings_dict["NAME"])},
            "broker": broker,
            "results": results,
            "limits": dict(zip(("soft_time_limit", "time_limit"), limits, strict=True)),
            "koan": {"MESSAGING": messaging, "INBOX": {"LEASE": 5, **(inbox or {})}},
        }
        self._override = override_koan(MESSAGING=messaging)
        self._override.enable()

    def end(self) -> None:
        for worker in self._workers:
            worker.kill()
        if self._override is not None:
            registry.reset()
            self._override.disable()

    def stacks(self) -> tuple[str, str]:
        """Where the threads of the workers stand, and those of their children."""
        running = {worker: len(worker.output) for worker in self._workers if worker.running}
        for worker in running:
            signal_group(worker.pid, signal.SIGUSR2)  # see celery.py
        time.sleep(1)
        return "where the workers stand", "\n".join(worker.output[length:] for worker, length in running.items())

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.integration.project.settings",
            "KOAN_LIVE": json.dumps(self._settings),
        }

    def worker(
        self, *options: str, pool: str = "prefork", size: int = 2, says: str = "Consuming the bus main"
    ) -> Process:
        """Start a worker and wait until it consumes."""
        return self.workers(1, *options, pool=pool, size=size, says=says)[0]

    def workers(
        self, count: int, *options: str, pool: str = "prefork", size: int = 2, says: str = "Consuming the bus main"
    ) -> list[Process]:
        """Start several workers at once and wait until all of them consume."""
        made = [self.start(count, *options, pool=pool, size=size) for count in range(1, count + 1)]
        for worker in made:
            worker.expect(says, timeout=60)
        return made

    def start(
        self,
        number: int = 1,
        *options: str,
        pool: str = "prefork",
        size: int = 2,
        variables: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a worker, with ``variables`` in its environment."""
        argv = [sys.executable, "-m", "celery", "-A", "tests.integration.project.celery", "worker", "-l", "info"]
        name = ["-n", f"w{number}@%h"]
        env = {**self.env, **(variables or {})}
        made = self._process("worker", [*argv, "-P", pool, "-c", str(size), *name, *options], env=env, cwd=ROOT)
        self._workers.append(made)
        return made

    def run(self, code: str) -> Process:
        """Run ``code`` in a process of the project, with its Celery app, while Django is set up."""
        start = "import django; django.setup(); from tests.integration.project import celery, tasks\n"
        return self._process("sender", [sys.executable, "-c", start + textwrap.dedent(code)], env=self.env, cwd=ROOT)

    def calls(self) -> list[tuple[int, int, int]]:
        """(number, attempt, pid) of every call of a handler."""
        file = self.folder / "calls.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(number), int(attempt), int(pid)) for number, attempt, pid in map(str.split, lines)]

    def effects(self) -> Counter[int]:
        """How often each number had its effect."""
        return Counter(int(name.split()[0]) for name in Group.objects.values_list("name", flat=True))

    def once(self, count: int, seconds: float = 60) -> None:
        """Wait until the numbers below ``count`` have had their effects, and see that each had it once."""
        wait_until(lambda: len(self.effects()) >= count, seconds, f"{count} effects")
        wait_until(lambda: kinds()["handled"] >= count, seconds, f"{count} handled messages")
        assert self.effects() == Counter(range(count))


def kinds() -> Counter[str]:
    """How many events of each kind there are."""
    return Counter(MessageEvent.objects.values_list("kind", flat=True))


@pytest.fixture
def live(
    request: pytest.FixtureRequest, tmp_path: Path, process: StartProcess, transactional_db: None
) -> Iterator[Live]:
    """A project whose messages this test can send: its handlers are known here for as long as the test lasts."""
    before = dict(handlers._handlers)
    from tests.integration.project import handlers as project

    _declare(project)
    made = Live(tmp_path, process)
    evidence(request.node, made.stacks)
    yield made
    made.end()
    handlers._handlers.clear()
    handlers._handlers.update(before)


def _declare(project: Any) -> None:
    from koan_django.messaging import handler
    from tests.integration.project.messages import Fragile, LockingTrouble, LongWork, Trouble, Work

    handler(Work, group="work", name="live.work")(project.work)
    handler(LongWork, group="long", name="live.long", atomic=False)(project.long_work)
    handler(Fragile, group="fragile", name="live.fragile", max_attempts=50, breaker=project.BREAKER)(project.fragile)
    handler(Trouble, group="trouble", name="live.trouble", atomic=False, **project.LIMITS)(project.trouble)
    handler(LockingTrouble, group="locking", name="live.locking", **project.LIMITS)(project.locking_trouble)
