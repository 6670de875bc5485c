"""How a private server ends: in order, killed, or before it has begun."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import pytest

from tests.services import mariadb, postgres, redis, wait_until
from tests.services.server import Server, ServerError
from tests.services.traces import alive, mentioning


@dataclass(frozen=True, slots=True)
class Case:
    """A server, what its log says when it has begun, and an option with which it does not start."""

    kind: type[Server]
    options: dict[str, str]
    ready: str
    wrong: tuple[str, str]


CASES = (
    Case(postgres.Postgres, postgres._OPTIONS, "ready to accept connections", ("max_connections", "nonsense")),
    Case(mariadb.MariaDB, mariadb._OPTIONS, "ready for connections", ("nonsense", "1")),
    Case(redis.Redis, redis._OPTIONS, "eady to accept connections", ("appendonly", "nonsense")),
)
on_each = pytest.mark.parametrize(
    "case", [pytest.param(each, id=each.kind.name, marks=pytest.mark.services(each.kind.name)) for each in CASES]
)


@pytest.fixture
def own(case: Case) -> Server:
    """A server that a test may end."""
    if case.kind.source(shared=False) != "binaries":
        pytest.skip(f"a server can be ended where its binaries are: install {case.kind.packages[0]}")
    return case.kind(own=True)


@on_each
def test_a_stopped_server_leaves_no_process_and_no_file(own: Server) -> None:
    own.start()
    folder, pids = own._files(), own.pids
    own.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    wait_until(lambda: not mentioning(str(folder)), what="its processes to end")


@on_each
def test_a_server_that_was_killed_says_so(own: Server, case: Case) -> None:
    own.start()
    try:
        os.kill(own.pids[0], signal.SIGKILL)
        how = wait_until(own.died, what="the death to be seen")
        assert "ended with -9" in how
        assert case.ready in how
    finally:
        own.stop()


@on_each
def test_a_server_that_cannot_start_says_why(own: Server, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(case.options, *case.wrong)
    with pytest.raises(ServerError, match=rf"(?s){case.kind.title} did not start.*nonsense"):
        own.start()
    assert own.pids == []
