"""MariaDB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from .database import DatabaseServer
from .process import plain_environment
from .requirement import first
from .server import ServerError
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


class MariaDB(DatabaseServer):
    """A MariaDB server."""

    title = "MariaDB"
    name = "mariadb"
    packages = ("mariadb-server-core", "mariadb-client-core")
    variable = "KOAN_TEST_MARIADB_URL"
    options: ClassVar[Mapping[str, str]] = _OPTIONS
    makes = "CREATE DATABASE `{}`"
    drops = "DROP DATABASE IF EXISTS `{}`"
    account = "mysql"

    @classmethod
    def binary(cls) -> Path | None:
        return first("mariadbd", "/usr/sbin/mariadbd", "/opt/homebrew/bin/mariadbd")

    def _contain(self) -> None:
        self.dsn = f"mysql://root@127.0.0.1:{self._up().port(3306)}/mysql"

    def _launch(self) -> None:
        program = self.binary()
        assert program is not None
        folder = self._home()
        data, grant = folder / "data", folder / "grant.sql"
        grant.write_text(_GRANT)
        grant.chmod(0o644)
        options = (f"--datadir={data}", f"--tmpdir={folder}", "--skip-test-db", "--innodb-flush-method=nosync")
        self._initialise(_installer(), "--no-defaults", *options)
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
            user=self._user(),
        )
        self.dsn = f"mysql://koan@127.0.0.1:{port}/mysql"

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


def _installer() -> Path:
    program = first("mariadb-install-db", "/usr/bin/mariadb-install-db", "/opt/homebrew/bin/mariadb-install-db")
    if program is None:
        raise ServerError("mariadb-install-db is missing: it comes in the same package as mariadbd")
    return program
