"""MariaDB."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

from .process import identity, plain_environment
from .requirement import first
from .server import Server, ServerError
from .waiting import free_port

#: Nothing here outlives the run, so nothing has to reach the disk.
_OPTIONS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    "innodb-doublewrite": "OFF",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-flush-method": "nosync",
    "innodb-log-file-size": "32M",
    "log-warnings": "1",
    "max-connections": "200",
    "skip-name-resolve": "ON",
}
#: Run at each start, before anybody is let in; a statement ends with its line.
_GRANT = """\
CREATE USER IF NOT EXISTS koan@'%';
GRANT ALL ON *.* TO koan@'%' WITH GRANT OPTION;
"""


class MariaDB(Server):
    """A MariaDB server. ``dsn`` leads to a database that is always there; :meth:`database` makes one for a test."""

    title = "MariaDB"
    name = "mariadb"
    packages = ("mariadb-server-core", "mariadb-client-core")
    variable = "KOAN_TEST_MARIADB_URL"
    options: ClassVar[Mapping[str, str]] = _OPTIONS
    dsn: str

    @classmethod
    def binary(cls) -> Path | None:
        return first("mariadbd", "/usr/sbin/mariadbd", "/opt/homebrew/bin/mariadbd")

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and yield its URL; it is dropped afterwards."""
        name = f"koan_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE `{name}`")
        try:
            yield urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        finally:
            self._execute(f"DROP DATABASE IF EXISTS `{name}`")

    def exports(self) -> dict[str, str]:
        return {self.variable: self.dsn, "KOAN_TEST_DATABASE_URL": self.dsn}

    def _adopt(self) -> None:
        self.dsn = os.environ[self.variable]

    def _contain(self) -> None:
        self.dsn = f"mysql://root@127.0.0.1:{self._up().port(3306)}/mysql"

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        folder, user = self._files(), _user()
        if user:
            shutil.chown(folder, user)
        data, grant = folder / "data", folder / "grant.sql"
        grant.write_text(_GRANT)
        grant.chmod(0o644)
        self._initialise(data, user)
        port = free_port()
        self._run(
            "mariadb",
            [
                program,
                "--no-defaults",
                f"--datadir={data}",
                f"--tmpdir={folder}",
                f"--port={port}",
                f"--socket={folder / 'mariadb.sock'}",
                f"--init-file={grant}",
                *(f"--{name}={value}" for name, value in self.options.items()),
            ],
            env=plain_environment(),
            user=user,
        )
        self.dsn = f"mysql://koan@127.0.0.1:{port}/mysql"

    def _initialise(self, data: Path, user: str | None) -> None:
        program = first("mariadb-install-db", "/usr/bin/mariadb-install-db", "/opt/homebrew/bin/mariadb-install-db")
        if program is None:
            raise ServerError("mariadb-install-db is missing: it comes in the same package as mariadbd")
        done = subprocess.run(
            [
                program,
                "--no-defaults",
                f"--datadir={data}",
                f"--tmpdir={data.parent}",
                "--skip-test-db",
                "--innodb-flush-method=nosync",
            ],
            cwd=data.parent,
            env=plain_environment(),
            capture_output=True,
            text=True,
            check=False,
            **(identity(user) if user else {}),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise ServerError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        import pymysql

        try:
            self._connect().close()
        except pymysql.err.OperationalError as error:
            raise OSError(str(error)) from error
        return True

    def _execute(self, statement: str) -> None:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    def _connect(self) -> Any:
        import pymysql

        parts = urlsplit(self.dsn)
        return pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.lstrip("/"),
            connect_timeout=2,
        )


def _user() -> str | None:
    """MariaDB refuses to run as root: return somebody it may run as."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "mysql" if "mysql" in known else "nobody"
