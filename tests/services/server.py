"""What every private server has in common: how it starts and how it ends."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from . import compose
from .process import Process
from .requirement import Requirement, remedy
from .waiting import wait_until


class ServerError(Exception):
    """A server is missing, does not start, or died."""


class Server(Requirement):
    """One server, private to this run unless the environment names one; ``own`` is private to its caller."""

    contained: ClassVar[bool] = True

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self._processes: list[Process] = []
        self._container: compose.Container | None = None
        self._folder: Path | None = None

    def start(self) -> None:
        """Start the server, or adopt the one that the environment names, and wait until it answers."""
        source = self.source(shared=not self._own)
        if source is None:
            raise ServerError(remedy([type(self)]))
        try:
            {"environment": self._adopt, "binaries": self._launch, "compose": self._contain}[source]()
            wait_until(self._check, 120, f"{self.title} to answer", errors=(OSError,))
        except BaseException as error:
            error.add_note("\n".join(process.tail() for process in self._processes))
            self.stop()
            raise

    def stop(self) -> None:
        """End what was started, and remove its files."""
        for process in reversed(self._processes):
            self._end(process)
        self._processes.clear()
        if self._container is not None:
            self._container.stop()
            self._container = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def died(self) -> str | None:
        """Return how the server died, with the end of its log, or ``None`` if it did not."""
        for process in self._processes:
            if not process.running:
                return f"{process.name} (pid {process.pid}) ended with {process.returncode}:\n{process.tail()}"
        if self._container is not None and not self._container.running():
            return f"the container of {self.title} has ended:\n{self._container.logs()}"
        return None

    @property
    def pids(self) -> list[int]:
        """The processes that were started for it."""
        return [process.pid for process in self._processes]

    def exports(self) -> dict[str, str]:
        """Return environment variables by which another test run finds this server."""
        return {}

    @abstractmethod
    def _adopt(self) -> None:
        """Read the address from the environment."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the binaries."""

    @abstractmethod
    def _contain(self) -> None:
        """Start the container."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server does its work."""

    def _check(self) -> bool:
        if (how := self.died()) is not None:
            raise ServerError(f"{self.title} did not start: {how}")
        return self._answers()

    def _end(self, process: Process) -> None:
        process.stop()

    def _files(self) -> Path:
        """Return the folder of this server, made on first use."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix=f"koan-{self.name}-"))
        return self._folder

    def _run(
        self,
        name: str,
        argv: list[str | Path],
        *,
        env: dict[str, str] | None = None,
        user: str | None = None,
    ) -> Process:
        folder = self._files()
        process = Process(name, argv, folder / f"{name}.log", env=env, cwd=folder, user=user)
        self._processes.append(process)
        return process

    def _up(self) -> compose.Container:
        self._container = compose.Container(self.name)
        self._container.start()
        return self._container
