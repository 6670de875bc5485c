"""Runs of pytest inside a run of pytest: what a person sees when something is missing, dies or fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFTEST = 'pytest_plugins = ["tests.services.plugin", "tests.services.fixtures"]\n'
NOWHERE = """
from tests.services import compose
from tests.services.postgres import Postgres
compose.engine_answers = lambda: False
Postgres.binary = classmethod(lambda cls: None)
"""
TWO_TESTS = "def test_plain(): pass\ndef test_server(postgres): pass\n"

Inner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def inner(tmp_path: Path) -> Inner:
    """Run pytest on ``tests``, with ``conftest`` and environment variables."""

    def run(tests: str, conftest: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "conftest.py").write_text(CONFTEST + conftest)
        (tmp_path / "test_inner.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  services\n")
        unset = ("SERVICES", "KOAN_TEST_REQUIRE_SERVICES", "KOAN_TEST_POSTGRES_URL", "PYTEST_ADDOPTS")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        # What other packages add to pytest takes seconds to load.
        environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
        command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


def test_a_missing_server_fails_the_run_and_says_what_to_install(inner: Inner) -> None:
    done = inner(TWO_TESTS, NOWHERE)
    assert done.returncode == 4
    assert "apt-get install postgresql" in done.stderr
    assert "KOAN_TEST_POSTGRES_URL" in done.stderr


def test_a_server_that_no_test_wants_is_not_missed(inner: Inner) -> None:
    assert inner("def test_plain(): pass\n", NOWHERE).returncode == 0


def test_without_servers_the_others_run_and_the_summary_says_so(inner: Inner) -> None:
    done = inner(TWO_TESTS, NOWHERE, SERVICES="none")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 deselected" in done.stdout
    assert "SERVICES=none: tests left out because they need servers: 1" in done.stdout


def test_required_servers_cannot_be_declined(inner: Inner) -> None:
    done = inner(TWO_TESTS, NOWHERE, SERVICES="none", KOAN_TEST_REQUIRE_SERVICES="1")
    assert done.returncode == 4
    assert "PostgreSQL" in done.stderr


def test_an_unknown_wish_is_refused(inner: Inner) -> None:
    done = inner(TWO_TESTS, SERVICES="nnoe")
    assert done.returncode == 4
    assert "SERVICES=nnoe: use none" in done.stderr


def test_a_server_asked_for_later_is_named_by_the_marker(inner: Inner) -> None:
    later = """
import pytest
@pytest.mark.services("postgres")
def test_later(request): request.getfixturevalue("postgres")
"""
    assert inner(later, NOWHERE).returncode == 4


@pytest.mark.long
def test_those_that_stop_a_server_run_in_one_process_which_alone_starts_it(inner: Inner, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tests = f"""
import os
import pytest
@pytest.fixture
def own_server(): return os.environ["PYTEST_XDIST_WORKER"]
@pytest.mark.parametrize("number", range(6))
def test_one(own_server, number):
    with open({str(notes)!r}, "a") as stream:
        print(own_server, file=stream)
"""
    done = inner(tests, PYTEST_ADDOPTS="-n 2 --dist loadgroup")
    assert done.returncode == 0, done.stdout
    ran_in = notes.read_text().split()
    assert len(ran_in) == 6
    assert len(set(ran_in)) == 1


@pytest.mark.services("postgres")
def test_a_server_that_dies_fails_the_tests_that_need_it(inner: Inner) -> None:
    tests = """
import os
def test_kills(postgres):
    os.kill(postgres.pids[0], 9)
    while postgres.died() is None: pass
def test_needs(postgres): pass
def test_plain(): pass
"""
    done = inner(tests, KOAN_TEST_POSTGRES_URL="")
    assert done.returncode == 1
    assert "PostgreSQL died earlier in this run: postgres (pid " in done.stdout
    assert "PostgreSQL died during the run" in done.stdout
    assert "2 passed" in done.stdout


def test_a_failure_shows_what_its_processes_said(inner: Inner) -> None:
    tests = """
def test_fails(process):
    process("oracle", ["/bin/sh", "-c", "echo the reason"]).wait()
    assert False
"""
    done = inner(tests)
    assert done.returncode == 1
    assert "output of <oracle: pid" in done.stdout
    assert "the reason" in done.stdout


@pytest.mark.services("chromium")
def test_an_error_in_the_browser_fails_the_test(inner: Inner) -> None:
    tests = """
import pytest
@pytest.mark.parametrize("script", ["console.error('red line')", "setTimeout(() => nothing.at.all)"])
def test_page(page, browser_errors, script):
    page.set_content(f"<script>{script}</script>")
    page.wait_for_timeout(200)
"""
    done = inner(tests)
    assert done.returncode == 1
    # The summary repeats their first lines, at the end of its own: all of them where CI is set.
    assert len(re.findall("^the browser reported errors:", done.stdout, re.MULTILINE)) == 2
    assert "console: red line" in done.stdout
    assert "nothing is not defined" in done.stdout
