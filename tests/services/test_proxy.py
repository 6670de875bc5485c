"""The proxy fails as it is told to, and otherwise passes everything on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .proxy import Proxy
from .waiting import wait_until


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that answers what it is sent; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo) as made:
        yield made


def client(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def test_everything_goes_through_in_both_directions(proxy: Proxy) -> None:
    content = bytes(range(256)) * 4096
    with client(proxy) as connection:
        threading.Thread(target=connection.sendall, args=[content]).start()
        received = b""
        while len(received) < len(content):
            received += connection.recv(65536)
        assert received == content
        assert proxy.connections == 1
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""  # the end is passed on, and comes back
    wait_until(lambda: proxy.connections == 0, what="the connection to be forgotten")


@pytest.mark.parametrize("directions", [(), ("up",), ("down",)])
def test_a_paused_direction_waits_and_loses_nothing(proxy: Proxy, directions: tuple[str, ...]) -> None:
    with client(proxy) as connection:
        proxy.pause(*directions)  # type: ignore[arg-type]
        connection.sendall(b"late")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        proxy.resume()
        connection.settimeout(5)
        assert connection.recv(4) == b"late"


def test_a_delay_takes_its_time(proxy: Proxy) -> None:
    with client(proxy) as connection:
        proxy.delay(0.1)
        began = time.monotonic()
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        assert 0.2 <= time.monotonic() - began < 2


def test_a_cut_resets_every_connection_and_lets_new_ones_through(proxy: Proxy) -> None:
    with client(proxy) as one, client(proxy) as other:
        wait_until(lambda: proxy.connections == 2, what="both to be connected")
        proxy.pause()
        proxy.cut()
        for connection in (one, other):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert proxy.connections == 0
        proxy.resume()
    with client(proxy) as fresh:
        fresh.sendall(b"again")
        assert fresh.recv(5) == b"again"


def test_while_it_is_shut_new_connections_are_refused_and_old_ones_go_on(proxy: Proxy) -> None:
    port = proxy.port
    with client(proxy) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"a"
        proxy.shut()
        with pytest.raises(ConnectionRefusedError):
            client(proxy)
        connection.sendall(b"b")
        assert connection.recv(1) == b"b"
    proxy.open()
    assert proxy.port == port
    with client(proxy) as connection:
        connection.sendall(b"c")
        assert connection.recv(1) == b"c"


def test_a_server_that_is_away_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    with (
        Proxy("127.0.0.1", port) as proxy,
        pytest.raises(ConnectionResetError),  # while it connects or when it reads
        client(proxy) as connection,
    ):
        connection.recv(1)


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("amqp://shop:p%40ss@broker:5672/vhost?heartbeat=5", "amqp://shop:p%40ss@127.0.0.1:{port}/vhost?heartbeat=5"),
        ("http://broker:80", "http://127.0.0.1:{port}"),
    ],
)
def test_a_url_leads_through_it_with_all_else_as_it_was(proxy: Proxy, url: str, through: str) -> None:
    assert proxy.url(url) == through.format(port=proxy.port)
