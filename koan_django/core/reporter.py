"""Reports the health and the facts of a process that serves no HTTP, every ten seconds until it stops."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import boot, facts, health
from .bell import Bell
from .registry import Registry, place_of
from .stores import STORE_ERRORS
from .threads import DatabaseThread

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0

Source = Callable[[], "health.Finding | None"]
_sources: Registry[Source] = Registry("health source")
#: Rung when somebody does not want to wait for the next report.
_hurry = Bell()


def source(name: str) -> Callable[[Source], Source]:
    """Ask the function in every report; ``None`` means there is nothing to say in this process."""

    def decorate(function: Source) -> Source:
        return _sources.add(name, function, origin=place_of(function))

    return decorate


def remove(name: str) -> None:
    """Stop asking the source called ``name``."""
    _sources.remove(name)


def hurry() -> None:
    """Have this process report now, if it reports at all: something has changed."""
    _hurry.ring()


class Reporter(DatabaseThread):
    """Writes what the sources say as health facts, and what was chosen; takes it back at a clean stop."""

    def __init__(self) -> None:
        super().__init__("koan-health")

    def work(self) -> None:
        while not self.stopping.is_set():
            _hurry.wait(0)  # what came before this report is in it
            self._report()
            _hurry.wait(PERIOD_SECONDS)
        self._retract()

    def stop(self, timeout: float | None = None) -> None:
        self.stopping.set()
        hurry()
        super().stop(timeout)

    def _report(self) -> None:
        for ask in _sources:
            try:
                with self.turn():
                    found = ask()
                    if found is not None:
                        health.report(found.name, found.status, found.message, critical=found.critical, data=found.data)
            except STORE_ERRORS as error:  # the facts expire and say unknown, which is the truth
                logger.warning("Health could not be reported: %s", error)
        with self.turn():
            boot.publish()

    def _retract(self) -> None:
        try:
            with self.turn():
                health.retract()
                facts.retract()
        except STORE_ERRORS as error:
            logger.warning("Health facts could not be taken back: %s", error)
