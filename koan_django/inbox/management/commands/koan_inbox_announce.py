"""``koan_inbox_announce``: lets clients find the inbox over HTTP by its name."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from koan_django.core import boot, process
from koan_django.core.commands import ending_on_signals
from koan_django.core.reporter import Reporter
from koan_django.inbox.conf import options as inbox
from koan_django.inbox.discovery import announcing

FAILED, UNABLE = 1, 2
#: How often to look whether it was asked to end.
LOOK_SECONDS = 0.2


class Command(BaseCommand):
    """Exit codes: 0 ended in order, 1 the announcer has failed, 2 by these settings nothing can be announced."""

    help = "Announces the inbox service that the settings name on the bus, and answers who asks, until it is to end."

    def handle(self, *args: Any, **options: Any) -> None:
        announce, wrong = inbox().discovery.announce, "; ".join(announcing.objections())
        if announce is None or wrong:
            raise CommandError(f"KOAN['INBOX']['DISCOVERY']: {wrong}", returncode=UNABLE)
        role = process.role()
        process.set_role("announcer")
        announcer = announcing.begin(announce)
        boot.log()
        reporter = Reporter()
        with ending_on_signals() as stopping:
            reporter.start()
            self.stderr.write(f"announcing {announcer.service.name} at {announcer.service.url}")
            try:
                while not stopping and announcer.is_alive():
                    time.sleep(LOOK_SECONDS)
            finally:
                announcer.stop(timeout=10)
                reporter.stop(timeout=5)
                process.set_role(role)
        if not stopping:
            raise SystemExit(FAILED)
