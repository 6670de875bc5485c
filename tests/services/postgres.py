"""PostgreSQL."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from .database import DatabaseServer
from .process import Process, plain_environment
from .requirement import first
from .waiting import free_port, wait_until

#: Nothing here outlives the run, so nothing has to reach the disk.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",
    "max_connections": "200",
}


class PostgresServer(DatabaseServer):
    """What speaks PostgreSQL's protocol. A database of a test is dropped, whoever is still connected."""

    makes = 'CREATE DATABASE "{}"'
    drops = 'DROP DATABASE IF EXISTS "{}" WITH (FORCE)'
    account = "postgres"

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error
        return True

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


class Postgres(PostgresServer):
    """A PostgreSQL server."""

    title = "PostgreSQL"
    name = "postgres"
    packages = ("postgresql",)
    units = ("postgresql.service",)
    variable = "KOAN_TEST_POSTGRES_URL"
    options: ClassVar[Mapping[str, str]] = _OPTIONS
    _port: int

    @classmethod
    def binary(cls) -> Path | None:
        homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        found = first(*(home / "postgres" for home in homes), "postgres", "/opt/homebrew/bin/postgres")
        # The name on PATH may be a link; its neighbours (initdb) are beside what it leads to.
        return found.resolve() if found else None

    def restart(self) -> None:
        """Stop the server, without waiting for its clients, and start it again where it was."""
        self._end(self._processes.pop())
        self._serve()
        wait_until(self._check, 60, f"{self.title} to answer", errors=(OSError,))

    def _contain(self) -> None:
        self.dsn = f"postgresql://koan@127.0.0.1:{self._up().port(5432)}/postgres"

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        data = self._home() / "data"
        words = ("-U", "koan", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self._initialise(program.with_name("initdb"), "-D", data, *words)
        self._port = free_port()
        self._serve()
        self.dsn = f"postgresql://koan@127.0.0.1:{self._port}/postgres"

    def _serve(self) -> None:
        program, data, port = self.binary(), self._files() / "data", str(self._port)
        assert program is not None
        options = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        self._run("postgres", [program, "-D", data, "-p", port, *options], env=plain_environment(), user=self._user())

    def _end(self, process: Process) -> None:
        process.stop(signal.SIGINT)  # "fast": without waiting for clients


def _version(home: Path) -> float:
    try:
        return float(home.parent.name)
    except ValueError:
        return 0.0
