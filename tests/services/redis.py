"""Redis."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .process import plain_environment
from .requirement import first
from .server import Server
from .waiting import free_port

#: Nothing here outlives the run, so nothing is written to the disk.
_OPTIONS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}


class Redis(Server):
    """A Redis server. ``url`` leads to its first database, which tests share: each uses keys of its own."""

    title = "Redis"
    name = "redis"
    packages = ("redis-server",)
    units = ("redis-server.service",)
    variable = "KOAN_TEST_REDIS_URL"
    url: str

    @classmethod
    def binary(cls) -> Path | None:
        return first("redis-server", "valkey-server", "/usr/bin/redis-server", "/opt/homebrew/bin/redis-server")

    def exports(self) -> dict[str, str]:
        return {self.variable: self.url}

    def _adopt(self) -> None:
        self.url = os.environ[self.variable]

    def _contain(self) -> None:
        self.url = f"redis://127.0.0.1:{self._up().port(6379)}/0"

    def _launch(self) -> None:
        program, port = self.binary(), free_port()
        assert program is not None
        options = [word for name, value in _OPTIONS.items() for word in (f"--{name}", value)]
        self._run("redis", [program, "--port", str(port), *options], env=plain_environment())
        self.url = f"redis://127.0.0.1:{port}/0"

    def _answers(self) -> bool:
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), 2) as connection:
            connection.settimeout(2)
            if parts.password:
                words = [unquote(word) for word in (parts.username, parts.password) if word]
                connection.sendall(_command("AUTH", *words))
                connection.recv(64)
            connection.sendall(_command("PING"))
            return connection.recv(64).startswith(b"+PONG")


def _command(*words: str) -> bytes:
    """Return a command as the protocol writes it: lengths are in bytes."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
