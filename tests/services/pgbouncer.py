"""PostgreSQL behind PgBouncer, which hands out connections by transaction."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from .postgres import Postgres, PostgresServer
from .process import Process, plain_environment
from .requirement import first
from .waiting import free_port

#: Fewer connections than the tests open at once, so that each transaction gets another one.
_CONFIG = """\
[databases]
* = host=127.0.0.1 port={behind}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 12
max_client_conn = 1000
server_login_retry = 1
log_connections = 0
log_disconnections = 0
log_pooler_errors = 1
"""


class PgBouncer(PostgresServer):
    """A pooler with a PostgreSQL of its own behind it."""

    title = "PgBouncer"
    name = "pgbouncer"
    packages = ("pgbouncer", "postgresql")
    units = ("pgbouncer.service", "postgresql.service")
    variable = "KOAN_TEST_PGBOUNCER_URL"
    contained: ClassVar[bool] = False

    def __init__(self, *, own: bool = False) -> None:
        super().__init__(own=own)
        self.behind = Postgres(own=True)

    @classmethod
    def binary(cls) -> Path | None:
        return first("pgbouncer", "/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer") if Postgres.binary() else None

    def stop(self) -> None:
        super().stop()
        self.behind.stop()

    def _contain(self) -> None:
        raise NotImplementedError("it is not among the containers")

    def _launch(self) -> None:
        program, port = self.binary(), free_port()
        assert program is not None
        self.behind.start()
        folder, user = self._home(), self._user()
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text('"koan" ""\n')
        config.write_text(_CONFIG.format(behind=urlsplit(self.behind.dsn).port, port=port, users=users))
        for file in (users, config):
            file.chmod(0o600)
            if user:
                shutil.chown(file, user)
        self._run("pgbouncer", [program, config], env=plain_environment(), user=user)
        self.dsn = urlunsplit(urlsplit(self.behind.dsn)._replace(netloc=f"koan@127.0.0.1:{port}"))

    def _end(self, process: Process) -> None:
        process.stop(signal.SIGTERM)  # at once, with whoever is connected
