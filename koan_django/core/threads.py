"""Threads that use the database in a process that forks, as the main process of a Celery prefork worker does.

A child must not inherit an open connection: closing its copy would end the parent's session (PostgreSQL) or release
its locks (SQLite). So a :class:`DatabaseThread` touches the database in *turns*, and a fork waits for the turn to end
and closes the thread's connections first; they open again by themselves.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connections

from .databases import keep_usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

logger = logging.getLogger(__name__)

#: A query may hang on a dead server; a fork goes on without waiting for it for ever.
FORK_WAIT_SECONDS = 5.0
#: How much of its stack tells where a thread is.
CALLS = 20

#: The parent's threads in a forked child. They are kept: collecting one would collect its connections, and a socket
#: that is closed here may be shut for the parent as well.
_inherited: list[DatabaseThread] = []
_threads: weakref.WeakSet[DatabaseThread] = weakref.WeakSet()
_forking: list[DatabaseThread] = []
#: One fork after the other: two would take each other's turns for their own.
_fork = threading.RLock()


class DatabaseThread(threading.Thread):
    """Base of the background threads. Subclasses write :meth:`work` and end soon after ``stopping`` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._turn = threading.Lock()
        self._stands_still = False
        self._opened: Sequence[Any] = ()
        _threads.add(self)

    def work(self) -> None:
        """Do the thread's work until ``stopping`` is set."""
        raise NotImplementedError

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Use the database inside this block only. A connection that a restart broke is replaced."""
        with self._turn:
            keep_usable()
            try:
                yield
            finally:
                self._opened = connections.all(initialized_only=True)

    def run(self) -> None:
        try:
            self.work()
        except Exception:
            logger.exception("The thread %s ended by an error", self.name)
        finally:
            with self._turn:
                connections.close_all()
                self._opened = ()

    def stop(self, timeout: float | None = None) -> None:
        """Ask the thread to end and wait for it."""
        self.stopping.set()
        if self.is_alive():
            self.join(timeout)

    def whereabouts(self) -> str:
        """Where the thread is now: its innermost calls, the last one first; for whoever asks why it does not move."""
        frame = sys._current_frames().get(self.ident or 0)
        calls = [f"{name}:{line}" for name, line in _calls_of(frame)]
        return ", called by ".join(calls) or "nowhere"

    def before_fork(self) -> None:
        """Wait for the turn to end, then close what the thread has open.

        Connections of a turn that does not end are in use and stay as they are; the child keeps its copies open.
        """
        self._stands_still = self._turn.acquire(timeout=FORK_WAIT_SECONDS)
        if not self._stands_still:
            logger.warning("%s was using the database during a fork, in %s", self.name, self.whereabouts())
            return
        for connection in self._opened:
            connection.inc_thread_sharing()
            try:
                connection.close()
            except Exception:
                logger.exception("A connection of %s did not close before a fork", self.name)
            finally:
                connection.dec_thread_sharing()

    def after_fork(self) -> None:
        """Let the thread go on."""
        if self._stands_still:
            self._stands_still = False
            self._turn.release()


def _calls_of(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    for _ in range(CALLS):
        if frame is None:
            return
        yield f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}", frame.f_lineno
        frame = frame.f_back


def _before() -> None:
    global _forking
    _fork.acquire()
    _forking = list(_threads)  # one that is made meanwhile has nothing open
    for thread in _forking:
        thread.before_fork()


def _in_parent() -> None:
    for thread in _forking:
        thread.after_fork()
    _fork.release()


def _in_child() -> None:
    _fork.release()  # the thread that forked is the one that runs here
    _inherited.extend(_threads)
    _threads.clear()  # none of them runs here


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
