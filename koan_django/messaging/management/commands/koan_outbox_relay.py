"""``manage.py koan_outbox_relay``: publishes the outbox where no worker is to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from koan_django.core import boot, process
from koan_django.core.commands import ending_on_signals
from koan_django.core.exceptions import KoanError
from koan_django.core.reporter import Reporter
from koan_django.core.texts import counted, one_line
from koan_django.messaging import requirements
from koan_django.messaging.buses import registry
from koan_django.messaging.buses.broker import BrokerBus
from koan_django.messaging.buses.elected import ElectedBus
from koan_django.messaging.outgoing.relays import Left, Relays

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from koan_django.messaging.buses.base import Bus

LEFT, UNABLE = 1, 2
#: For how long ``--once`` goes on, in seconds, when nothing else is said.
TIMEOUT = 60.0
#: How often to look whether it was asked to end, or whether the outbox is empty.
LOOK_SECONDS = 0.2
#: How often to look which broker is elected.
TEND_SECONDS = 2.0


class Command(BaseCommand):
    """Exit codes: 0 ended in order, 1 messages wait or were parked, or a relay failed, 2 no bus is on a broker."""

    help = "Publishes the outbox without a worker: until it is asked to end, or with --once until nothing waits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bus", action="append", default=[], help="the alias of a bus; may be repeated")
        parser.add_argument("--once", action="store_true", help="end when nothing waits that is due")
        parser.add_argument(
            "--timeout", type=float, help=f"with --once, end after so many seconds ({TIMEOUT:g}) whatever waits"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        timeout = TIMEOUT if options["timeout"] is None else options["timeout"]
        if not options["once"] and options["timeout"] is not None:
            raise CommandError("--timeout is for --once: without it a relay runs until told to end", returncode=UNABLE)
        relays = Relays(self._buses(options["bus"]))
        role = process.role()
        process.set_role("relay")
        boot.log()
        reporter = Reporter()
        with ending_on_signals() as stopping:
            reporter.start()
            self.stderr.write(f"relaying {', '.join(bus.alias for bus in relays.buses)}")
            try:
                if options["once"]:
                    seen = self._once(relays, stopping, timeout)
                else:
                    failed = _run(relays, stopping)
            finally:
                relays.stop()
                reporter.stop(timeout=5)
                process.set_role(role)
        if options["once"]:
            failed = self._tell(relays, *seen)  # once they have ended, who have counted all that is gone
        if failed:
            raise SystemExit(LEFT)

    def _buses(self, aliases: list[str]) -> list[Bus]:
        try:
            requirements.enforce()
            named = [registry.get(alias) for alias in dict.fromkeys(aliases)]
        except KoanError as error:
            raise CommandError(str(error), returncode=UNABLE) from error
        without = [bus.alias for bus in named if not _has_broker(bus)]
        found = named or [bus for bus in registry.all_buses() if _has_broker(bus)]
        if without or not found:
            what = f"the bus {without[0]!r} is on no broker" if without else "no bus is on a broker"
            raise CommandError(f"{what}: there is no outbox to publish", returncode=UNABLE)
        return found

    def _once(self, relays: Relays, stopping: list[int], timeout: float) -> tuple[Left | None, Left | None]:
        """Return what stood in the outbox at the beginning, and what is left."""
        end = time.monotonic() + timeout
        before = left = None
        while not stopping and not relays.has_failed:
            relays.tend()
            try:
                left = relays.left()
            except (DatabaseError, InterfaceError) as error:
                self.stderr.write(one_line(f"The outbox could not be read: {error}"))
            before = before or left
            if (left is not None and not left.waiting) or time.monotonic() >= end:
                break
            time.sleep(LOOK_SECONDS)
        return before, left

    def _tell(self, relays: Relays, before: Left | None, left: Left | None) -> bool:
        """Return whether anything is left that this run should have published."""
        if before is None or left is None:
            self.stderr.write("the outbox was never read")
            return True
        parked = max(left.parked - before.parked, 0)
        self.stdout.write(f"{counted(relays.published, 'message')} published, {left.waiting} left, {parked} parked")
        if (left.waiting or parked) and (reason := relays.reason()):
            self.stderr.write(one_line(reason))
        return bool(left.waiting or parked)


def _run(relays: Relays, stopping: list[int]) -> bool:
    """Relay until the process is asked to end; return whether a relay has failed."""
    tended = float("-inf")
    while not stopping and not relays.has_failed:
        if time.monotonic() - tended >= TEND_SECONDS:
            relays.tend()
            tended = time.monotonic()
        time.sleep(LOOK_SECONDS)
    return relays.has_failed


def _has_broker(bus: Bus) -> bool:
    return isinstance(bus, BrokerBus) or (isinstance(bus, ElectedBus) and bool(bus.candidates))
