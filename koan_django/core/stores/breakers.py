"""Circuit breakers as rows, and in the memory of one process."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections, router

from koan_django.core import clock
from koan_django.core.circuits import Circuit
from koan_django.core.functions import Now

from .base import Change, compare_and_set
from .rows import RowOptions, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.db.models import QuerySet

    from koan_django.core.circuits import Step
    from koan_django.core.models import Breaker

T = TypeVar("T")

_PLAIN = ("state", "openings", "forced", "reason", "generation", "version")


class RowBreakers(Rows):
    """Circuits as rows, written outside of the caller's transaction: its rollback must not undo what failed.

    SQLite has one writer: there they are written inside, and a rollback takes them along. So it is in a ``TestCase``,
    whose end nothing may outlive.
    """

    keeps = "breakers"

    def read(self, name: str) -> tuple[Circuit, float]:
        row = self._row(name)
        return (Circuit(), clock.now().timestamp()) if row is None else _read(row)

    def change(self, name: str, step: Step) -> Change:
        return outside(self._rows().db, lambda: self._change(name, step))

    def circuits(self) -> dict[str, Circuit]:
        return {row.name: circuit_of(row) for row in self._rows()}

    def mirror(self, circuits: Mapping[str, Circuit]) -> None:
        """Write rows that show circuits of another store, for the admin."""
        for name, circuit in circuits.items():
            self._rows().update_or_create(name=name, defaults=columns_of(circuit))

    def declare(self, names: Iterable[str]) -> None:
        """Write rows for breakers that have nothing to remember yet."""
        self._rows().bulk_create([self._rows().model(name=name) for name in names], ignore_conflicts=True)

    def _change(self, name: str, step: Step) -> Change:
        def read() -> tuple[Circuit, float]:
            row = self._row(name)
            if row is None:
                self.declare([name])
                row = self._rows().annotate(now=Now()).get(name=name)
            return _read(row)

        def write(circuit: Circuit) -> bool:
            before = self._rows().filter(name=name, version=circuit.version - 1)
            return bool(before.update(**columns_of(circuit)))

        return compare_and_set(read, write, step)

    def _row(self, name: str) -> Breaker | None:
        return self._rows().filter(name=name).annotate(now=Now()).first()

    def _rows(self) -> QuerySet[Breaker]:
        from koan_django.core.models import Breaker

        return Breaker.objects.using(router.db_for_write(Breaker))


class MemoryBreakers(Rows):
    """Circuits of this process alone: for tests, and for a project of one process."""

    keeps = "breakers"

    def __init__(self, options: RowOptions) -> None:
        super().__init__(options)
        self._circuits: dict[str, Circuit] = {}
        self._lock = threading.Lock()

    def read(self, name: str) -> tuple[Circuit, float]:
        return self._circuits.get(name, Circuit()), clock.now().timestamp()

    def change(self, name: str, step: Step) -> Change:
        with self._lock:
            before, now = self.read(name)
            after = step(before, now)
            if after != before:
                after = self._circuits[name] = replace(after, version=before.version + 1)
            return Change(before, after, now)

    def circuits(self) -> dict[str, Circuit]:
        return dict(self._circuits)


def circuit_of(row: Breaker) -> Circuit:
    """Return the circuit that ``row`` holds."""
    plain = {name: getattr(row, name) for name in _PLAIN}
    return Circuit(
        **plain,
        failures=tuple(row.failures),
        probes=tuple(row.probes),
        until=_seconds(row.until),
        changed_at=_seconds(row.changed_at),
    )


def _read(row: Any) -> tuple[Circuit, float]:
    return circuit_of(row), row.now.timestamp()


def columns_of(circuit: Circuit) -> dict[str, object]:
    """Return the columns that hold ``circuit``."""
    plain = {name: getattr(circuit, name) for name in _PLAIN}
    times = {name: _moment(getattr(circuit, name)) for name in ("until", "changed_at")}
    return {**plain, **times, "failures": list(circuit.failures), "probes": list(circuit.probes)}


def outside(using: str, work: Callable[[], T]) -> T:
    """Do ``work`` outside of the transaction that may be open here, on a connection of its own."""
    connection = connections[using]
    # Django marks so what a TestCase has opened; the stubs do not know of it.
    in_test_case = any(block._from_testcase for block in connection.atomic_blocks)  # type: ignore[attr-defined]
    if not connection.in_atomic_block or in_test_case or connection.vendor == "sqlite":
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="koan-breaker")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
