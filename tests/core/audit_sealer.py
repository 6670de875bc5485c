"""A process that seals and does not ask for the lease, as one does that was paused past its end.

With the argument ``judge`` it verifies, seals what is left with the lease, and verifies again.
"""

import json
import os
import sys

import django

from tests import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
settings.KOAN["CORE"] = {"AUDIT": {"BATCH": 100}}
django.setup()

from koan_django.core.audit.keys import key_ring  # noqa: E402
from koan_django.core.audit.sealing import _TakenError, seal, seal_batch  # noqa: E402
from koan_django.core.audit.verifying import verify  # noqa: E402


def compete() -> None:
    """Seal until nothing is left, beside somebody who does the same."""
    sealed = taken = 0
    keys = key_ring()
    print("ready", flush=True)
    input()
    while True:
        try:
            made = seal_batch(keys, "default")
        except _TakenError:
            taken += 1
            continue
        if made is None:
            break
        sealed += made.count
    print(sealed, taken)


def judge() -> None:
    """Print what is verified before and after the rest is sealed."""
    reports = [verify()]
    seal()
    reports.append(verify())
    print(json.dumps([[each.is_intact, each.events, each.waiting] for each in reports]))


judge() if "judge" in sys.argv else compete()
