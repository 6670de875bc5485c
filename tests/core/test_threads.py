"""Threads that use the database in a process that forks."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable

import pytest
from django.db import connection

from koan_django.core import threads
from koan_django.core.models import Lease
from koan_django.core.threads import DatabaseThread
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Polling(DatabaseThread):
    """Reads as fast as it can, in turns."""

    def __init__(self) -> None:
        super().__init__("polling")
        self.reads = 0
        self.failures: list[Exception] = []

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.turn():
                    assert Lease.objects.count() == 1
                self.reads += 1
            except Exception as error:
                self.failures.append(error)


class Holding(DatabaseThread):
    """Stays in one turn until it is told to go on."""

    def __init__(self) -> None:
        super().__init__("holding")
        self.began, self.go_on = threading.Event(), threading.Event()
        self.after = -1

    def work(self) -> None:
        with self.turn():
            Lease.objects.count()
            self.began.set()
            self.go_on.wait(20)
            self.after = Lease.objects.count()
        with self.turn():  # the lock is whole
            Lease.objects.count()


def fork(child: Callable[[], object]) -> int:
    """Run ``child`` in a forked process; return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; they are the point here
        pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write_in_child() -> None:
    connection.close()
    Lease.objects.filter(name="x").update(lease_owner=str(os.getpid()))
    connection.close()


def test_forks_while_a_thread_polls_disturb_neither_side() -> None:
    Lease.objects.create(name="x")
    connection.close()
    polling = Polling()
    polling.start()
    try:
        assert [fork(write_in_child) for _ in range(30)] == [0] * 30
        before = polling.reads
        while polling.reads < before + 5 and not polling.failures:
            pass
    finally:
        polling.stop(10)
    assert polling.failures == []
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            assert cursor.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_fork_does_not_touch_the_connection_of_a_turn_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FORK_WAIT_SECONDS", 0.1)
    Lease.objects.create(name="x")
    connection.close()
    holding = Holding()
    holding.start()
    assert holding.began.wait(10)
    assert fork(lambda: None) == 0
    holding.go_on.set()
    holding.join(10)
    assert holding.after == 1
    assert not holding._turn.locked()


def test_two_threads_that_fork_at_once_leave_the_turns_of_the_others_free() -> None:
    Lease.objects.create(name="x")
    connection.close()
    polling, codes = Polling(), []

    def go_on_forking() -> None:
        codes.extend(fork(lambda: fork(lambda: None)) for _ in range(20))

    forking = [threading.Thread(target=go_on_forking) for _ in range(3)]
    polling.start()
    try:
        for thread in forking:
            thread.start()
        for thread in forking:
            thread.join(30)
        before = polling.reads
        assert wait_until(lambda: polling.reads > before + 5, 10, "the thread to have turns")
    finally:
        polling.stop(10)
    assert codes == [0] * 60
    assert polling.failures == []
