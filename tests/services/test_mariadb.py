from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest

from tests.services import wait_until
from tests.services.mariadb import _OPTIONS, MariaDB
from tests.services.server import ServerError
from tests.services.traces import alive, mentioning


def connect(dsn: str) -> Any:
    parts = urlsplit(dsn)
    name = parts.path.lstrip("/")
    return pymysql.connect(host=parts.hostname, port=parts.port or 3306, user=parts.username, database=name)


def test_a_database_is_empty_and_usable_and_gone_afterwards(mariadb: MariaDB) -> None:
    with mariadb.database() as dsn, connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == ()
        cursor.execute("CREATE TABLE notes (text text)")
        cursor.execute("INSERT INTO notes VALUES ('naïve café 🙂')")
        cursor.execute("SELECT text FROM notes")
        assert cursor.fetchall() == (("naïve café 🙂",),)
    with pytest.raises(pymysql.err.OperationalError, match="Unknown database"):
        connect(dsn)


@pytest.fixture
def own() -> MariaDB:
    """A server that a test may end."""
    if MariaDB.source(shared=False) != "binaries":
        pytest.skip("a server can be ended where its binaries are: install mariadb-server-core")
    return MariaDB(own=True)


@pytest.mark.services("mariadb")
def test_a_stopped_server_leaves_no_process_and_no_file(own: MariaDB) -> None:
    own.start()
    folder, pids = own._files(), own.pids
    own.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    wait_until(lambda: not mentioning(str(folder)), what="its processes to end")


@pytest.mark.services("mariadb")
def test_a_server_that_was_killed_says_so(own: MariaDB) -> None:
    own.start()
    try:
        os.kill(own.pids[0], signal.SIGKILL)
        how = wait_until(own.died, what="the death to be seen")
        assert "ended with -9" in how
        assert "ready for connections" in how
    finally:
        own.stop()


@pytest.mark.services("mariadb")
def test_a_server_that_cannot_start_says_why(own: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_OPTIONS, "nonsense", "1")
    with pytest.raises(ServerError, match=r"(?s)MariaDB did not start.*nonsense"):
        own.start()
    assert own.pids == []
