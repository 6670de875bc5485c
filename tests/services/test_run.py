"""The command that runs another with servers, and what the default database then is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).parents[2]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KOAN_TEST", "SERVICES"))}
    command = [sys.executable, "-m", "tests.services", *words]
    return subprocess.run(command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True)


@pytest.mark.database
@pytest.mark.django_db
def test_the_default_database_is_the_one_asked_for() -> None:
    asked = os.environ.get("KOAN_TEST_DATABASE_URL", "sqlite:").partition(":")[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert connection.vendor == asked


@pytest.mark.services("postgres")
def test_the_command_finds_the_server_and_gives_its_own_exit_code() -> None:
    program = "import os, psycopg; psycopg.connect(os.environ['KOAN_TEST_DATABASE_URL']).close(); raise SystemExit(42)"
    done = run("run", "postgres", "--", sys.executable, "-c", program)
    assert done.returncode == 42, done.stderr


def test_without_servers_the_command_is_not_run() -> None:
    done = run("run", "postgres", "--", "false", SERVICES="none")
    assert done.returncode == 0
    assert "SERVICES=none: not run: false" in done.stderr


def test_a_run_over_several_processes_shares_servers_and_keeps_its_own_database() -> None:
    program = "import os; raise SystemExit(42 if 'KOAN_TEST_DATABASE_URL' in os.environ else 43)"
    done = run("share", "postgres", "--", sys.executable, "-c", program, SERVICES="none")
    assert done.returncode == 43, done.stderr


@pytest.mark.services("postgres")
def test_the_shared_server_is_named_to_the_command() -> None:
    program = "import os; raise SystemExit(len({'KOAN_TEST_POSTGRES_URL', 'KOAN_TEST_DATABASE_URL'} & set(os.environ)))"
    done = run("share", "postgres", "--", sys.executable, "-c", program)
    assert done.returncode == 1, done.stderr


def test_an_unknown_server_and_a_missing_command_are_refused() -> None:
    assert "invalid choice: 'oracle'" in run("run", "oracle", "--", "true").stderr
    assert "the command comes after --" in run("run", "postgres").stderr
