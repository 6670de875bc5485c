"""A TCP proxy that stands between a test and a server, and fails as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

#: ``up`` is towards the server, ``down`` comes from it.
Direction = Literal["up", "down"]
_CHUNK = 65536
#: Closing with this sends a reset, as a firewall or a crash does, and drops what was not sent.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections to ``host`` and ``port`` until it is told otherwise.

    ``pause`` lets bytes of a direction wait, ``delay`` slows them down, ``cut`` resets every connection, ``shut``
    refuses new ones until ``open``. ``with Proxy(...) as proxy`` starts and stops it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._change = threading.Condition()
        self._paused: set[Direction] = set()
        self._delay = 0.0
        self._links: list[_Link] = []
        self._listener: socket.socket | None = None
        self.port = 0

    @classmethod
    @contextlib.contextmanager
    def before(cls, url: str) -> Iterator[Proxy]:
        """Stand before the server of ``url``; :meth:`url` gives the way through."""
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        with cls(parts.hostname, parts.port) as proxy:
            yield proxy

    def __enter__(self) -> Proxy:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shut()
        self.cut()

    def url(self, url: str) -> str:
        """Return ``url`` with the proxy in the server's place."""
        parts = urlsplit(url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        """How many connections go through now."""
        with self._change:
            self._links = [link for link in self._links if not link.ended]
            return len(self._links)

    def pause(self, *directions: Direction) -> None:
        """Let what goes in ``directions`` (both without any) wait; the connections stay up."""
        with self._change:
            self._paused |= set(directions or ("up", "down"))

    def resume(self) -> None:
        """Let everything through again, what has waited first."""
        with self._change:
            self._paused.clear()
            self._delay = 0.0
            self._change.notify_all()

    def delay(self, seconds: float) -> None:
        """Let every chunk wait for so long, in both directions."""
        self._delay = seconds

    def cut(self) -> None:
        """Reset every connection."""
        with self._change:
            links, self._links = self._links, []
            for link in links:
                link.end()
            self._change.notify_all()

    def shut(self) -> None:
        """Refuse new connections; those that are up stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def open(self) -> None:
        """Take new connections, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], name="proxy", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server.settimeout(None)
            link = _Link(client, server)
            with self._change:
                self._links.append(link)
            for source, target, direction in ((client, server, "up"), (server, client, "down")):
                pump = threading.Thread(target=self._pump, args=[link, source, target, direction], daemon=True)
                pump.start()

    def _pump(self, link: _Link, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                time.sleep(self._delay)
                with self._change:
                    self._change.wait_for(lambda: link.ended or direction not in self._paused)
                target.sendall(chunk)
            with self._change:
                self._change.wait_for(lambda: link.ended or direction not in self._paused)
            target.shutdown(socket.SHUT_WR)  # an end in one direction is passed on as such
            if not link.half_ended():
                return
        link.end()


class _Link:
    """The two sockets of one connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        self._lock = threading.Lock()
        self._halves = 0
        self.ended = False

    def half_ended(self) -> bool:
        """One direction is over; return whether both are now."""
        with self._lock:
            self._halves += 1
            return self._halves == 2

    def end(self) -> None:
        """Reset both sides."""
        self.ended = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RD)  # wakes the thread that reads
            each.close()
