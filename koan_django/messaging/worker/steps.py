"""Two boot steps of the Celery worker.

The consumer step starts the bus threads once the pool can take work. The worker step stands first in the worker's list
so that its ``close`` runs while the pool is still open: it waits for what is in flight, whose acknowledgements a plain
warm stop would lose.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from django.apps import apps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .pool import CeleryPool
    from .runner import BusRunner

logger = logging.getLogger(__name__)


class _State:
    """What the two steps of a worker share; a process has one worker."""

    runner: BusRunner | None = None
    pool: CeleryPool | None = None


def _is_installed() -> bool:
    return apps.is_installed("koan_django.messaging")


class BusConsumerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is not typed
    """Starts the threads, and again hands over what Celery's pool lost at a reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, parent: Any) -> bool:
        """Without messaging there is nothing to consume."""
        return _is_installed()

    def start(self, parent: Any) -> None:
        """Without an event loop the pool takes work now; with one, not before it is wired to the loop."""
        if parent.hub is None:
            self._go(parent)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """The pool is wired to the loop."""
        self._go(parent)

    def _go(self, consumer: Any) -> None:
        from koan_django.messaging.handling.limits import announce

        from .pool import CeleryPool
        from .runner import BusRunner

        if _State.runner is not None and _State.pool is not None:
            _State.pool.resubmit()
            return
        _State.pool = CeleryPool(consumer.pool, consumer.hub)
        announce(enforced=_State.pool.enforces_limits)
        _State.runner = BusRunner(_State.pool)
        _State.runner.start()


class BusWorkerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is not typed
    """Drains at a warm stop."""

    def include_if(self, parent: Any) -> bool:
        """Without messaging there is nothing to drain."""
        return _is_installed()

    def include(self, parent: Any) -> bool:
        """Stand first: the steps are closed in this order, the pool among them."""
        included = self.include_if(parent)
        if included:
            parent.steps.insert(0, self)
        return included

    def close(self, parent: Any) -> None:
        """Wait for what is in flight, at most ``DRAIN_TIMEOUT``."""
        from koan_django.messaging.conf import options

        runner, self_pool = _State.runner, _State.pool
        if runner is None or self_pool is None:
            return
        runner.drain()
        end = time.monotonic() + options().drain_timeout.total_seconds()
        turns = _turns(parent.hub if getattr(parent, "use_eventloop", False) else None)
        while runner.is_busy and time.monotonic() < end:
            next(turns)
        if runner.is_busy:
            logger.warning("Batches are still running after the drain; they are handed out again")
        self_pool.closing = True
        runner.stop()

    def terminate(self, parent: Any) -> None:
        """A cold stop waits for nothing."""
        if _State.runner is not None:
            _State.runner.stop()


def _turns(hub: Any) -> Iterator[None]:
    """Let time pass, and with an event loop the verdicts of the pool come in. Nothing that fails there ends a drain."""
    loop = None
    while True:
        if hub is None:
            time.sleep(0.02)
        else:
            try:
                loop = loop or hub.create_loop()
                hub.call_later(0.05, _nothing)  # the turn must end although nothing arrives
                next(loop)
            except Exception as error:  # as when Celery's own broker goes away now
                logger.warning("The event loop failed during the drain: %s", error)
                loop = None
                time.sleep(0.02)
        yield


def _nothing() -> None:
    pass
