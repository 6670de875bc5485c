"""``manage.py koan_dev``: web, worker and beat of this project in one terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from koan_django.core import celeryapps, development
from koan_django.core.development import Development
from koan_django.core.exceptions import KoanError
from koan_django.core.facts import Fact
from koan_django.core.redaction import redact_text
from koan_django.core.supervisor import Supervisor
from koan_django.core.watching import Watcher, project_folders

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable
    from pathlib import Path

KILLED = 1


class Command(BaseCommand):
    """Exit codes: 0 stopped in order, 1 a program had to be killed after the grace or could not be started."""

    help = "Run web, worker and beat side by side, start again what dies, stop all with Ctrl-C. For development."
    requires_system_checks = ()  # the checks of the databases are run too, below

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--app", "-A", help="the Celery app, as `celery -A` takes it; found by itself otherwise")
        parser.add_argument("--host", default="127.0.0.1", help="the address that the web process listens on")
        parser.add_argument("--port", type=int, default=8000, help="the port of the web process")
        parser.add_argument("--no-beat", action="store_true", help="do not start beat")
        parser.add_argument("--pool", help="the worker's pool: prefork, threads, solo")
        parser.add_argument("--concurrency", type=int, help="how many processes or threads the worker's pool has")
        parser.add_argument("--loglevel", default="INFO", help="of worker and beat")
        parser.add_argument("--noreload", action="store_true", help="do not restart when the project's code changes")
        parser.add_argument("--grace", type=float, default=10.0, help="seconds from SIGTERM to SIGKILL when stopping")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.check(databases=list(connections))
            self.check_migrations()
            self._run(celeryapps.find(options["app"]), options)
        except KoanError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"the database does not answer: {redact_text(str(error))}") from error

    def _run(self, found: celeryapps.CeleryApp, options: dict[str, Any]) -> None:
        beat = development.beat_fact(found.app, wanted=not options["no_beat"])
        laptop = Development(
            app=found.argument,
            host=options["host"],
            port=options["port"],
            beat=beat is not None,
            pool=options["pool"],
            concurrency=options["concurrency"],
            log_level=options["loglevel"],
            reload=not options["noreload"],
        )
        if not development.is_free(laptop.host, laptop.port):
            raise CommandError(f"{laptop.address} is taken by another program. Stop that, or choose another --port.")
        supervisor = self._supervisor(laptop, options)
        for fact in self._facts(found, laptop, beat, options):
            supervisor.say(f"{fact.subject:<6}  {fact.selection}  ({fact.reason})")
        supervisor.say("Ctrl-C stops everything; a second one does not wait.")
        self._supervise(supervisor, found, laptop)

    def _supervisor(self, laptop: Development, options: dict[str, Any]) -> Supervisor:
        coloured = True if options["force_color"] else False if options["no_color"] else None
        output = cast("TextIO", self.stdout)
        return Supervisor(laptop.programs(), output=output, coloured=coloured, grace=options["grace"])

    def _facts(
        self, found: celeryapps.CeleryApp, laptop: Development, beat: Fact | None, options: dict[str, Any]
    ) -> Iterable[Fact]:
        pool = f"pool {laptop.pool}, --pool" if laptop.pool else f"pool {found.app.conf.worker_pool}, Celery's settings"
        yield Fact("web", f"http://{laptop.address}/", "runserver, --host and --port")
        yield Fact("worker", f"celery -A {found.argument}", f"{found.reason}; {pool}")
        absent = "--no-beat" if options["no_beat"] else "nothing is scheduled"
        yield beat or Fact("beat", "not started", absent)
        yield development.broker_fact(found.app)

    def _supervise(self, supervisor: Supervisor, found: celeryapps.CeleryApp, laptop: Development) -> None:
        watcher = self._watcher(supervisor, found) if laptop.reload else None
        try:
            supervisor.run()
        finally:
            if watcher is not None:
                watcher.stop()
        killed = sorted({ended.name for ended in supervisor.exits if ended.asked and ended.signal == "SIGKILL"})
        if killed:
            raise CommandError(f"killed, since they did not end in time: {', '.join(killed)}", returncode=KILLED)

    def _watcher(self, supervisor: Supervisor, found: celeryapps.CeleryApp) -> Watcher:
        def restart(changed: list[Path]) -> None:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            supervisor.say(f"{os.path.relpath(changed[0])}{more} changed: worker and beat start again")
            for name in ("worker", "beat"):
                supervisor.restart(name)

        watcher = Watcher(project_folders(found.module), restart)
        watcher.start()
        return watcher
