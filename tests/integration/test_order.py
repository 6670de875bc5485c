"""Order with real workers: a tenth of the soak of the partitions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.postgres import Postgres
from tests.services.rabbitmq import RabbitMQ

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.services("rabbitmq", "postgres")
def test_keys_stay_in_order_while_workers_are_killed_stopped_frozen_and_added(
    rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    """100 keys, 10,000 messages on two buses, four workers; each key's steps are taken in order, each once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soaks", "partitions", "--seconds", "8", "--seed", "5"],
        env={**os.environ, **rabbitmq.exports(), **postgres.exports(), "KOAN_SOAK_SCALE": "0.1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = done.stdout.splitlines()[-1] if done.stdout else ""
    assert done.returncode == 0, f"{said}\n{done.stderr[-3000:]}"
    assert "10000 messages sent, 10000 taken, 0 missing, 0 twice, 0 keys out of order" in said
