"""What the database servers have in common: a database for each test, and an account that may run them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from .process import identity, plain_environment
from .server import Server, ServerError


class DatabaseServer(Server):
    """A database server. ``dsn`` leads to a database that is always there; :meth:`database` makes one for a test."""

    options: ClassVar[Mapping[str, str]]
    #: The statements that make and drop a database, with ``{}`` for its name.
    makes: ClassVar[str]
    drops: ClassVar[str]
    #: Whoever its package runs it as: these servers refuse to run as root.
    account: ClassVar[str]
    dsn: str

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and yield its URL; it is dropped afterwards."""
        name = f"koan_{uuid.uuid4().hex[:12]}"
        self._execute(self.makes.format(name))
        try:
            yield urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))
        finally:
            self._execute(self.drops.format(name))

    def exports(self) -> dict[str, str]:
        return {self.variable: self.dsn, "KOAN_TEST_DATABASE_URL": self.dsn}

    @abstractmethod
    def _execute(self, statement: str) -> None:
        """Run a statement, outside a transaction where that matters."""

    def _adopt(self) -> None:
        self.dsn = os.environ[self.variable]

    def _home(self) -> Path:
        """Return the folder of this server, which belongs to whoever runs it."""
        folder, user = self._files(), self._user()
        if user:
            shutil.chown(folder, user)
        return folder

    def _user(self) -> str | None:
        """Return the account to run as, if we are root."""
        if os.getuid() != 0:
            return None
        known = {entry.pw_name for entry in pwd.getpwall()}
        return self.account if self.account in known else "nobody"

    def _initialise(self, program: Path, *words: str | Path) -> None:
        """Run the program that makes the files of an empty server."""
        argv: Sequence[str | Path] = [program, *words]
        user = self._user()
        done = subprocess.run(
            argv,
            cwd=self._files(),
            env=plain_environment(),
            capture_output=True,
            text=True,
            check=False,
            **(identity(user) if user else {}),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise ServerError(f"{program.name} failed:\n{done.stdout}{done.stderr}")
