from __future__ import annotations

import urllib.error

import pytest
from kombu import Connection

from tests.services import wait_until
from tests.services.rabbitmq import RabbitMQ, Vhost
from tests.services.server import ServerError
from tests.services.traces import alive, mentioning


def test_a_vhost_takes_and_returns_messages(vhost: Vhost) -> None:
    with Connection(vhost.url) as connection:
        queue = connection.SimpleQueue("letters")
        queue.put({"word": "hello"})
        assert queue.get(timeout=10).payload == {"word": "hello"}
        queue.close()
    assert set(vhost.queues()) == {"letters"}


def test_vhosts_see_nothing_of_each_other(rabbitmq: RabbitMQ) -> None:
    with rabbitmq.vhost() as one, rabbitmq.vhost() as other:
        with Connection(one.url) as connection:
            connection.SimpleQueue("letters").close()
        assert "letters" in one.queues()
        assert other.queues() == {}


def test_a_vhost_is_gone_afterwards(rabbitmq: RabbitMQ) -> None:
    with rabbitmq.vhost() as made:
        assert rabbitmq.api("GET", f"vhosts/{made.name}")["name"] == made.name
    with pytest.raises(urllib.error.HTTPError, match="404"):
        rabbitmq.api("GET", f"vhosts/{made.name}")


@pytest.mark.services("rabbitmq")
def test_a_stopped_broker_leaves_no_process_and_no_file() -> None:
    if RabbitMQ.source(shared=False) != "binaries":
        pytest.skip("a broker can be ended where its binaries are: install rabbitmq-server")
    server = RabbitMQ(own=True)
    server.start()
    folder, pids = server._files(), server.pids
    assert server.died() is None
    assert mentioning(str(folder))
    server.stop()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()
    wait_until(lambda: not mentioning(str(folder)), what="Erlang's port programs to end")


def test_a_server_of_ones_own_can_be_controlled(own_rabbitmq: RabbitMQ) -> None:
    assert "rabbitmq_management" in own_rabbitmq.control("status")
    with pytest.raises(ServerError, match="no-such-command"):
        own_rabbitmq.control("no-such-command")
