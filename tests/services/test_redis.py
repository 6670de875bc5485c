from __future__ import annotations

import os
import signal

import pytest
from redis import Redis as Client

from tests.services import wait_until
from tests.services.redis import _OPTIONS, Redis
from tests.services.server import ServerError
from tests.services.traces import alive, mentioning


def test_it_keeps_what_it_is_given(redis: Redis) -> None:
    with Client.from_url(redis.url) as client:
        client.set("koan-test:naïve", "café", ex=60)
        assert client.get("koan-test:naïve") == "café".encode()


@pytest.fixture
def own() -> Redis:
    """A server that a test may end."""
    if Redis.source(shared=False) != "binaries":
        pytest.skip("a server can be ended where its binaries are: install redis-server")
    return Redis(own=True)


@pytest.mark.services("redis")
def test_a_stopped_server_leaves_no_process_and_no_file(own: Redis) -> None:
    own.start()
    folder, pids = own._files(), own.pids
    own.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    wait_until(lambda: not mentioning(str(folder)), what="its processes to end")


@pytest.mark.services("redis")
def test_a_server_that_was_killed_says_so(own: Redis) -> None:
    own.start()
    try:
        os.kill(own.pids[0], signal.SIGKILL)
        assert "ended with -9" in wait_until(own.died, what="the death to be seen")
    finally:
        own.stop()


@pytest.mark.services("redis")
def test_a_server_that_cannot_start_says_why(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_OPTIONS, "appendonly", "nonsense")
    with pytest.raises(ServerError, match=r"(?s)Redis did not start.*nonsense"):
        own.start()
    assert own.pids == []
