"""PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from .process import Process, identity, plain_environment
from .requirement import first
from .server import Server, ServerError
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


class Postgres(Server):
    """A PostgreSQL server. ``dsn`` leads to its maintenance database; :meth:`database` makes one for a test."""

    title = "PostgreSQL"
    name = "postgres"
    packages = ("postgresql",)
    units = ("postgresql.service",)
    variable = "KOAN_TEST_POSTGRES_URL"
    options: ClassVar[Mapping[str, str]] = _OPTIONS
    dsn: str
    _port: int

    @classmethod
    def binary(cls) -> Path | None:
        homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        found = first(*(home / "postgres" for home in homes), "postgres", "/opt/homebrew/bin/postgres")
        # The name on PATH may be a link; its neighbours (initdb) are beside what it leads to.
        return found.resolve() if found else None

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and yield its URL; it is dropped afterwards, whoever is still connected."""
        name = f"koan_{uuid.uuid4().hex[:12]}"
        self._execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        finally:
            self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def restart(self) -> None:
        """Stop the server, without waiting for its clients, and start it again where it was."""
        self._end(self._processes.pop())
        self._serve()
        wait_until(self._check, 60, f"{self.title} to answer", errors=(OSError,))

    def exports(self) -> dict[str, str]:
        return {self.variable: self.dsn, "KOAN_TEST_DATABASE_URL": self.dsn}

    def _adopt(self) -> None:
        self.dsn = os.environ[self.variable]

    def _contain(self) -> None:
        self.dsn = f"postgresql://koan@127.0.0.1:{self._up().port(5432)}/postgres"

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        folder, user = self._files(), _user()
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        self._initialise(program.with_name("initdb"), data, user)
        self._port = free_port()
        self._serve()
        self.dsn = f"postgresql://koan@127.0.0.1:{self._port}/postgres"

    def _serve(self) -> None:
        program, data, port = self.binary(), self._files() / "data", str(self._port)
        assert program is not None
        options = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        self._run("postgres", [program, "-D", data, "-p", port, *options], env=plain_environment(), user=_user())

    def _initialise(self, initdb: Path, data: Path, user: str | None) -> None:
        done = subprocess.run(
            [initdb, "-D", data, "-U", "koan", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            cwd=data.parent,
            env=plain_environment(),
            capture_output=True,
            text=True,
            check=False,
            **(identity(user) if user else {}),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error
        return True

    def _end(self, process: Process) -> None:
        process.stop(signal.SIGINT)  # "fast": without waiting for clients

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


def _version(home: Path) -> float:
    try:
        return float(home.parent.name)
    except ValueError:
        return 0.0


def _user() -> str | None:
    """PostgreSQL refuses to run as root: return somebody it may run as."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
