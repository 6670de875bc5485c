"""Reports the health and the facts of a process that serves no HTTP, every ten seconds until it stops."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import boot, facts, health
from .registry import Registry, origin_of
from .stores import STORE_ERRORS
from .threads import DatabaseThread

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0

Source = Callable[[], "health.Finding | None"]
_sources: Registry[Source] = Registry("health source")


def source(name: str) -> Callable[[Source], Source]:
    """Ask the function in every report; ``None`` means there is nothing to say in this process."""

    def decorate(function: Source) -> Source:
        return _sources.add(name, function, origin=origin_of(function))

    return decorate


def remove(name: str) -> None:
    """Stop asking the source called ``name``."""
    _sources.remove(name)


class Reporter(DatabaseThread):
    """Writes what the sources say as health facts, and what was chosen; takes it back at a clean stop."""

    def __init__(self) -> None:
        super().__init__("koan-health")

    def work(self) -> None:
        while True:
            self._report()
            if self.stopping.wait(PERIOD_SECONDS):
                break
        self._retract()

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
