"""A process that seals and does not ask for the lease, as one does that was paused past its end.

It does what the lines of its input say: ``migrate``, ``seal`` until nothing is left beside somebody who does the same,
and ``judge``: verify, seal what is left, verify again. It answers each with a line.
"""

import json
import os
import sys

import django

from tests import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
settings.KOAN["CORE"] = {"AUDIT": {"BATCH": 100}}
django.setup()

from django.core.management import call_command  # noqa: E402

from koan_django.core.audit.keys import key_ring  # noqa: E402
from koan_django.core.audit.sealing import _TakenError, seal, seal_batch  # noqa: E402
from koan_django.core.audit.verifying import verify  # noqa: E402


def migrate() -> str:
    call_command("migrate", verbosity=0)
    return "migrated"


def compete() -> int:
    """Return how many events this process sealed."""
    sealed, keys = 0, key_ring()
    while True:
        try:
            made = seal_batch(keys, "default")
        except _TakenError:
            continue
        if made is None:
            return sealed
        sealed += made.count


def judge() -> list[list[object]]:
    """Return what is verified before and after the rest is sealed."""
    reports = [verify()]
    seal()
    reports.append(verify())
    return [[each.is_intact, each.events, each.waiting] for each in reports]


for line in sys.stdin:
    print(json.dumps({"migrate": migrate, "seal": compete, "judge": judge}[line.strip()]()), flush=True)
