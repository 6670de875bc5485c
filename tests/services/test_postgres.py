from __future__ import annotations

import os
import signal

import psycopg
import pytest

from tests.services import wait_until
from tests.services.postgres import _OPTIONS, Postgres
from tests.services.server import ServerError
from tests.services.traces import alive, mentioning


def test_a_database_is_empty_and_usable(postgres_database: str) -> None:
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE notes (text text)")
        connection.execute("INSERT INTO notes VALUES ('naïve café')")
        assert connection.execute("SELECT text FROM notes").fetchone() == ("naïve café",)


def test_a_database_is_gone_afterwards_though_somebody_is_connected(postgres: Postgres) -> None:
    with postgres.database() as dsn:
        lingering = psycopg.connect(dsn)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)
    lingering.close()


@pytest.fixture
def own() -> Postgres:
    """A server that a test may end."""
    if Postgres.source(shared=False) != "binaries":
        pytest.skip("a server can be ended where its binaries are: install postgresql")
    return Postgres(own=True)


@pytest.mark.services("postgres")
def test_a_stopped_server_leaves_no_process_and_no_file(own: Postgres) -> None:
    own.start()
    folder, pids = own._files(), own.pids
    own.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    wait_until(lambda: not mentioning(str(folder)), what="its processes to end")


@pytest.mark.services("postgres")
def test_a_server_that_was_killed_says_so(own: Postgres) -> None:
    own.start()
    try:
        os.kill(own.pids[0], signal.SIGKILL)
        how = wait_until(own.died, what="the death to be seen")
        assert "ended with -9" in how
        assert "ready to accept connections" in how
    finally:
        own.stop()


@pytest.mark.services("postgres")
def test_a_server_that_cannot_start_says_why(own: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_OPTIONS, "max_connections", "nonsense")
    with pytest.raises(ServerError, match=r"(?s)PostgreSQL did not start.*nonsense"):
        own.start()
    assert own.pids == []
