"""A process that sends until it is told to stop: ``python -m tests.soaks.project.sender SEED``.

Most messages are sent in a transaction, with a row that says so; some of these are rolled back. Some are sent outside
of one, and the row says first that it is tried and then that it was done. Some are delivered twice.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

import django
from msgspec.structs import replace

from .looping import RolledBack, until_stopped

if TYPE_CHECKING:
    from koan_django.messaging.envelope import Envelope

PAUSE_SECONDS = 0.03
BUSES = ("database", "rabbitmq")


def send_some(chance: random.Random) -> None:
    """Send a few messages in a transaction, or one outside of one."""
    from django.db import transaction

    from .models import Sent

    bus = chance.choice(BUSES)
    if chance.random() < 0.3:
        row = Sent.objects.create(bus=bus, certain=False)
        send(row, chance)
        Sent.objects.filter(pk=row.pk).update(certain=True)
        return
    with transaction.atomic():
        for _ in range(chance.randint(1, 6)):
            send(Sent.objects.create(bus=bus), chance)
        if chance.random() < 0.1:
            raise RolledBack


def send(row: object, chance: random.Random) -> None:
    """Send the message of ``row``, and sometimes once more to its group, as a lost acknowledgement has it."""
    from koan_django.messaging.buses import registry
    from koan_django.messaging.outgoing.sending import wrap

    from .messages import Work
    from .models import Sent

    assert isinstance(row, Sent)
    fails, dies = (1 if chance.random() < share else 0 for share in (0.02, 0.004))
    envelope: Envelope = wrap(Work(number=row.pk, fails=fails, dies=dies), row.bus)
    bus = registry.get(row.bus)
    bus.send([envelope], None)
    if chance.random() < 0.05:
        bus.send([replace(envelope, group="ledger")], None)


if __name__ == "__main__":
    django.setup()
    until_stopped(send_some, sys.argv[1], PAUSE_SECONDS)
