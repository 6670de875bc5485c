"""What runs on a laptop: web, worker and beat of a project, as programs for the :class:`~.supervisor.Supervisor`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.apps import apps

from .facts import Fact
from .programs import Program
from .redaction import redact_text
from .texts import counted

#: Installed, each of these has something to fire that no setting shows.
_SCHEDULERS = ("koan_django.scheduling", "django_celery_beat")
#: How long the broker may take to answer before it counts as absent.
BROKER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Development:
    """How the processes of a project are started. ``None`` leaves a choice to Celery and the project's settings.

    ``manage`` is how a management command is run. ``quiet`` hides what a person who only watches need not read.
    """

    app: str
    host: str = "127.0.0.1"
    port: int = 8000
    beat: bool = True
    pool: str | None = None
    concurrency: int | None = None
    log_level: str | None = None
    reload: bool = True
    quiet: bool = False
    manage: tuple[str, ...] = field(default_factory=lambda: manage_command())
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the web process is to be found."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def programs(self) -> list[Program]:
        """Return web, worker and, unless it is not wanted, beat."""
        found = [self._program("web", self._web()), self._program("worker", self._worker())]
        return [*found, self._program("beat", self._beat())] if self.beat else found

    def _program(self, name: str, argv: list[str]) -> Program:
        quiet = {
            "DJANGO_RUNSERVER_HIDE_WARNING": "true",
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
        }
        return Program(name, argv, env={**(quiet if self.quiet else {}), **import_path(self.manage), **self.env})

    def _web(self) -> list[str]:
        options = [*([] if self.reload else ["--noreload"]), *(["--skip-checks"] if self.quiet else [])]
        return [*self.manage, "runserver", *options, self.address]

    def _worker(self) -> list[str]:
        options = ["--without-gossip", "--without-mingle"]
        for name, value in (("--pool", self.pool), ("--concurrency", self.concurrency)):
            options += [] if value is None else [name, str(value)]
        return self._celery("worker", *options)

    def _beat(self) -> list[str]:
        # A killed beat leaves its pid file behind, and the next one would refuse to start.
        return self._celery("beat", "--pidfile", "")

    def _celery(self, *words: str) -> list[str]:
        level = [] if self.log_level is None else ["--loglevel", self.log_level]
        return [sys.executable, "-m", "celery", "-A", self.app, "--quiet", *words, *level]


def manage_command() -> tuple[str, ...]:
    """Return how this very process runs management commands: its ``manage.py``, or ``python -m django``."""
    script = Path(sys.argv[0])
    if script.name != "__main__.py" and script.suffix == ".py" and script.is_file():
        return sys.executable, str(script.resolve())
    return sys.executable, "-m", "django"


def import_path(manage: tuple[str, ...]) -> dict[str, str]:
    """Let Celery import what ``manage.py`` can: the folder of the script, which need not be the current one."""
    script = Path(manage[-1])
    if script.suffix != ".py":
        return {}
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(script.resolve().parent), *([inherited] if inherited else [])])}


def beat_fact(app: Any, *, wanted: bool = True) -> Fact | None:
    """Say why beat is to run, ``None`` when it is not wanted or nothing is scheduled."""
    if not wanted:
        return None
    for name in _SCHEDULERS:
        if apps.is_installed(name):
            return Fact("beat", "celery beat", f"{name} is installed")
    entries = sorted(app.conf.beat_schedule or {})
    if not entries:
        return None
    return Fact(
        "beat",
        "celery beat",
        f"{counted(len(entries), 'entry', 'entries')} in beat_schedule, the first is {entries[0]}",
    )


def broker_fact(app: Any) -> Fact:
    """Say which broker Celery uses, and whether it answers. The address is shown without its password."""
    with app.connection_for_write(connect_timeout=BROKER_SECONDS) as connection:
        address = redact_text(connection.as_uri(mask="").replace(":@", "@").replace("//@", "//"))
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except Exception as error:  # each transport has errors of its own
            why = redact_text(f"{type(error).__name__}: {error}")
            return Fact("broker", address, f"does not answer, the worker tries again until it does: {why}")
    return Fact("broker", address, "answers")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on ``host`` and ``port`` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
