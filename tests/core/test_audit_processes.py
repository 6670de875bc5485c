"""Two processes seal at once on PostgreSQL, without a lease between them, while transactions are open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
EVENTS = 3000
SEALER = str(Path(__file__).parent / "audit_sealer.py")
INSERT = """
INSERT INTO koan_core_auditevent (at, action, actor, actor_reference, process, object_type, object_id, object_text,
    correlation_id, tenant, data)
SELECT now(), 'x.y', 'ann', '', '', 'thing', n::text, '', '', '', jsonb_build_object('n', n)
FROM generate_series(1, %s) AS n
"""


def test_two_sealers_make_one_chain_and_miss_nothing(postgres_database: str) -> None:
    run(postgres_database, "manage.py", "migrate", "--verbosity", "0")
    with psycopg.connect(postgres_database) as late, psycopg.connect(postgres_database, autocommit=True) as other:
        late.execute(INSERT, [5])  # the lowest ids, and not committed before the others are sealed
        other.execute(INSERT, [EVENTS])
        processes = [started(postgres_database) for _ in range(2)]
        for each in processes:
            assert each.stdout.readline() == "ready\n"
        for each in processes:
            each.stdin.write("\n")
            each.stdin.flush()
        said = [each.communicate(timeout=120)[0].split() for each in processes]
        assert [each.returncode for each in processes] == [0, 0]
        assert sum(int(words[0]) for words in said) == EVENTS
        late.commit()
    reports = json.loads(run(postgres_database, SEALER, "judge"))
    assert reports == [[True, EVENTS, 5], [True, EVENTS + 5, 0]]


def started(dsn: str) -> Any:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, SEALER], cwd=ROOT, env=environment(dsn), **pipes)


def run(dsn: str, *argv: str) -> str:
    command = [sys.executable, *argv]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(dsn), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(dsn: str) -> dict[str, str]:
    ours = {"DJANGO_SETTINGS_MODULE": "tests.settings", "KOAN_TEST_DATABASE_URL": dsn, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **ours}
