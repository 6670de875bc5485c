"""``koan_scheduling list`` and ``koan_scheduling run NAME``."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from koan_django.core.commands import AuditedCommand
from koan_django.scheduling.exceptions import BusyError, UnknownTaskError
from koan_django.scheduling.firing import request_run
from koan_django.scheduling.models import RunState, ScheduledTask, TaskRun
from koan_django.scheduling.running import execute
from koan_django.scheduling.syncing import sync

if TYPE_CHECKING:
    from argparse import ArgumentParser

FAILED, UNKNOWN, BUSY = 1, 2, 3


class Command(AuditedCommand):
    """Exit codes of ``run``: 0 succeeded, 1 failed, 2 no such task, 3 under way already."""

    help = "List the scheduled tasks, or run one here and now."

    def is_audited(self, options: dict[str, Any]) -> bool:
        return bool(options["verb"] == "run")

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="verb", required=True)
        listing = commands.add_parser("list", help="what is scheduled, and how it went last")
        running = commands.add_parser("run", help="run a task in this process and wait for its end")
        running.add_argument("name", help="as `list` shows it")
        for each in (listing, running):
            each.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        sync()
        if verb == "list":
            self._list(options["format"])
        else:
            self._run(options["name"], options["format"])

    def _list(self, style: str) -> None:
        tasks = [_described(task) for task in ScheduledTask.objects.all()]
        if style == "json":
            self.stdout.write(json.dumps(tasks, indent=2, default=str))
            return
        for task in tasks:
            when = task["next_run_at"] or ("gone" if task["gone"] else "-" if task["enabled"] else "disabled")
            self.stdout.write(f"{task['name']}  {task['schedule']}  next: {when}  last: {task['last_state'] or '-'}")

    def _run(self, name: str, style: str) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the run is recorded as interrupted
        try:
            run = request_run(name)
        except (UnknownTaskError, BusyError) as error:
            code = UNKNOWN if isinstance(error, UnknownTaskError) else BUSY
            raise CommandError(str(error), returncode=code) from error
        execute(run.pk)
        self._report(TaskRun.objects.select_related("task").get(pk=run.pk), style)

    def _report(self, run: TaskRun, style: str) -> None:
        if style == "json":
            self.stdout.write(json.dumps(_ended(run), indent=2, default=str))
        else:
            self.stdout.write(f"{run.task.name}: {run.state} {run.error}".rstrip())
        if run.state != RunState.SUCCEEDED:
            raise SystemExit(BUSY if run.state == RunState.SKIPPED else FAILED)


def _described(task: ScheduledTask) -> dict[str, Any]:
    names = (
        "name",
        "trigger",
        "misfire",
        "enabled",
        "gone",
        "critical",
        "next_run_at",
        "last_state",
        "last_finished_at",
    )
    return {
        **{name: getattr(task, name) for name in names},
        "schedule": str(task.schedule),
        "drifted": task.drifted,
    }


def _ended(run: TaskRun) -> dict[str, Any]:
    names = ("uuid", "state", "trigger", "planned_at", "started_at", "finished_at", "error", "result", "correlation_id")
    seconds = None if run.duration is None else run.duration.total_seconds()
    return {"task": run.task.name, "seconds": seconds, **{name: getattr(run, name) for name in names}}
