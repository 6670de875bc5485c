"""Schemathesis plays every operation of the OpenAPI document against a live server, with right and wrong data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.test import override_settings

from koan_django.inbox.models import InboxEntry

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

#: What is served, as another test proves; a busy machine may take longer to serve it than Schemathesis waits.
DOCUMENT = Path(__file__).parents[2] / "docs/reference/inbox-openapi.json"
TOKEN = "schemathesis-token-0123456789"
SERVICE = {"TOKENS": {"all": {"TOKEN": TOKEN, "SCOPES": ["*"], "RATE": 100_000}}}


@pytest.mark.django_db(transaction=True)
def test_schemathesis_finds_nothing(live_server: LiveServer, tmp_path: Path) -> None:
    with override_settings(KOAN={**settings.KOAN, "INBOX": {"SERVICE": SERVICE}}):
        report = tmp_path / "report.ndjson"
        ended = subprocess.run(
            [
                program(),
                "run",
                str(DOCUMENT),
                f"--url={live_server.url}/koan",
                f"--header=Authorization: Bearer {TOKEN}",
                "--seed=20",
                "--max-examples=5",
                "--request-timeout=60",
                "--checks=all",
                "--phases=coverage,fuzzing",
                "--no-shrink",
                "--continue-on-failure",
                f"--report-ndjson-path={report}",
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=500,
        )
    assert ended.returncode == 0, f"{ended.stdout[-6000:]}\n{ended.stderr[-2000:]}"
    assert TOKEN not in ended.stdout
    assert InboxEntry.objects.filter(handler="http").exists()  # or nothing that it sent was ever right


def program() -> str:
    """Schemathesis beside this Python; it runs apart, because its plugins are not for every test."""
    beside = Path(sys.executable).parent
    found = shutil.which("schemathesis", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, "schemathesis is not installed: pip install --group dev"
    return found
