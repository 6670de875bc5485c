"""Two processes and one lease: the first is stopped past its end, and what it writes late changes nothing."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from koan_django.core.leases import acquire
from koan_django.core.models import Lease
from tests.contracts.stores.conftest import COMMITTING
from tests.services.fixtures import StartProcess
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.database, COMMITTING]

ROOT = Path(__file__).parents[3]
OWNER = Path(__file__).with_name("owner.py")


def test_a_write_that_comes_too_late_is_fenced_off(
    kind: str, request: Any, process: StartProcess, tmp_path: Path
) -> None:
    Lease.objects.create(name="ledger-resource")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.contracts.stores.child_settings",
        "KOAN_CHILD_DATABASE": str(settings.DATABASES["default"]["NAME"]),
        "KOAN_CHILD_REDIS": request.getfixturevalue("redis").url if kind == "redis" else "",
        "KOAN_CHILD_PREFIX": settings.KOAN.get("CORE", {}).get("LEASES", {}).get("OPTIONS", {}).get("PREFIX", ""),
    }
    go = tmp_path / "go"
    first = process("owner", [sys.executable, OWNER, "ledger", go], env=environment, cwd=ROOT)
    first.expect("holding")
    wait_until(lambda: acquire("ledger", timedelta(minutes=1)) is None, what="the lease to be held")
    first.send(signal.SIGSTOP)
    second = wait_until(lambda: acquire("ledger", timedelta(minutes=1)), what="the lease of the stopped process to end")
    resource = Lease.objects.filter(name="ledger-resource", lease_token__lte=second.token)
    assert resource.update(lease_token=second.token, lease_owner="second") == 1
    go.touch()
    first.send(signal.SIGCONT)
    first.expect("written 0")
    first.expect("lost: the lease on ledger is lost")
    assert first.wait() == 0
    assert Lease.objects.get(name="ledger-resource").lease_owner == "second"
    second.check()
