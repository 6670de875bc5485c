"""Two processes seal at once on PostgreSQL, without a lease between them, while transactions are open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
EVENTS = 3000
INSERT = """
INSERT INTO koan_core_auditevent (at, action, actor, actor_reference, process, object_type, object_id, object_text,
    correlation_id, tenant, data)
SELECT now(), 'x.y', 'ann', '', '', 'thing', n::text, '', '', '', jsonb_build_object('n', n)
FROM generate_series(1, %s) AS n
"""


class Sealer:
    """A process that is told what to do, a line at a time."""

    def __init__(self, dsn: str) -> None:
        ours = {"DJANGO_SETTINGS_MODULE": "tests.settings", "KOAN_TEST_DATABASE_URL": dsn, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, str(Path(__file__).parent / "audit_sealer.py")]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, **ours}, **pipes)

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")

    def answer(self) -> Any:
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def sealers(postgres_database: str) -> Iterator[tuple[Sealer, Sealer]]:
    both = Sealer(postgres_database), Sealer(postgres_database)
    yield both
    for each in both:
        each.process.communicate(timeout=30)
        assert each.process.returncode == 0


def test_two_sealers_make_one_chain_and_miss_nothing(sealers: tuple[Sealer, Sealer], postgres_database: str) -> None:
    sealers[0].tell("migrate")
    assert sealers[0].answer() == "migrated"
    with psycopg.connect(postgres_database) as late, psycopg.connect(postgres_database, autocommit=True) as other:
        late.execute(INSERT, [5])  # the lowest ids, and not committed before the others are sealed
        other.execute(INSERT, [EVENTS])
        for each in sealers:
            each.tell("seal")
        assert sum(each.answer() for each in sealers) == EVENTS
        late.commit()
    sealers[0].tell("judge")
    assert sealers[0].answer() == [[True, EVENTS, 5], [True, EVENTS + 5, 0]]
