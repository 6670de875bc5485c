"""Announces the service of this project on the bus, and answers who asks for it while the service answers itself."""

from __future__ import annotations

import atexit
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from koan_django.core import facts, health, process, reporter
from koan_django.core.context import new_id
from koan_django.core.exceptions import KoanError
from koan_django.core.facts import Fact
from koan_django.core.redaction import redact_text
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.telemetry import emit
from koan_django.core.threads import DatabaseThread
from koan_django.inbox.conf import options
from koan_django.inbox.exceptions import ServiceConflictError
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.calling import Unanswered, address_of

from . import asking, bus, signing, statements
from .refusals import Refusals, RefusedError
from .selecting import check_one_memory
from .statements import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from koan_django.messaging.buses.amqp.broadcast import Broadcast, Heard

    from .options import AnnounceOptions

logger = logging.getLogger(__name__)

#: How often to look whether this is to end.
LOOK_SECONDS = 0.5
#: Between two attempts of what has failed, and for how long a beginning may fail without a word: servers start slowly.
PAUSE_SECONDS, BEGINNING_SECONDS = 2.0, 5.0
#: The broker must let us in and answer.
PATIENCE_SECONDS = 5.0
#: How often the service is looked at; before an answer it was looked at this long ago at most.
CHECK_SECONDS, FRESH_SECONDS = 5.0, 1.0
CHECK_TIMEOUT = timedelta(seconds=1)
#: How long to wait for others of the same name, and how often to look whether one that remembers apart is still there.
OTHERS_TIMEOUT = timedelta(seconds=1)
CONFLICT_SECONDS = 30.0
#: Who has stayed silent for another takes over when that was not heard for so long: it may be reconnecting.
TAKEOVER_SECONDS = 10.0


class Announcer(DatabaseThread):
    """Announces when it begins and whenever the broker or the service was away. ``trouble`` says why it does not."""

    def __init__(self, announce: AnnounceOptions) -> None:
        super().__init__("koan-inbox-announcer")
        instance = f"{process.identity()}:{new_id()[:8]}"
        store = announce.store or announce.url
        self.service = Service(announce.name, announce.url, store, instance, priority=announce.priority)
        self.trouble = "it has just begun"
        self._quiet_until = time.monotonic() + BEGINNING_SECONDS
        #: Whether others come first, and until when this one is silent for another.
        self._looks_first = True
        self._silent_until = 0.0
        self._conflict = ""
        self._conflict_until = self._checked_at = 0.0
        self._refusals = Refusals("announcing")

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                self._serve()
            except KoanError as error:
                if isinstance(error, ServiceConflictError) or self._silent_until:
                    self._silent_until = time.monotonic() + TAKEOVER_SECONDS
                self._tell(redact_text(str(error)))
            except Exception as error:  # the next attempt may do better
                logger.exception("The announcer failed")
                self._tell(redact_text(f"{type(error).__name__}: {error}"))
            if self.trouble:
                self.stopping.wait(LOOK_SECONDS if time.monotonic() < self._quiet_until else PAUSE_SECONDS)

    def finding(self) -> health.Finding:
        """How it is."""
        name, trouble = "inbox.announcing", self.trouble if self.is_alive() else "the thread has ended"
        if trouble:
            return health.Finding(name, "unhealthy", f"{self.service.name} is not announced: {trouble}")
        if self._conflict:
            return health.Finding(name, "unhealthy", self._conflict)
        if self._refusals.are_recent:
            return health.Finding(name, "degraded", f"not believed since it began: {self._refusals.text}")
        return health.Finding(name, "healthy", f"{self.service.name} at {self.service.url}")

    def _serve(self) -> None:
        """Answer until the service or the broker is away, or this is to end."""
        if not self._is_there(0):
            self._looks_first = True
            return
        if self._looks_first:
            self._look_for_others()
            if time.monotonic() < self._silent_until:
                return
        room = bus.broadcast("announcer", PATIENCE_SECONDS)
        try:
            room.open([bus.pings(self.service.name), bus.announcements(self.service.name)])
            self._announce(room)
            self._looks_first, self._silent_until = False, 0.0
            while not (self.stopping.is_set() or room.is_stale) and self._is_there(CHECK_SECONDS):
                self._tell("")
                for heard in room.listen(LOOK_SECONDS):
                    self._hear(room, heard)
                self._look_at_conflict()
        finally:
            room.disconnect()

    def _announce(self, room: Broadcast) -> None:
        said = statements.announcement(self.service, signing.keys()[0])
        room.say(bus.announcements(self.service.name), said, options().discovery.expiry)
        emit("inbox.announced", service=self.service.name)

    def _hear(self, room: Broadcast, heard: Heard) -> None:
        name, keys = self.service.name, signing.keys()
        try:
            if heard.topic == bus.pings(name):
                asked = statements.read_ping(heard.body, name, keys)
                if self._is_there(FRESH_SECONDS):
                    said = statements.answer(self.service, asked.nonce, keys[0])
                    room.answer(asked.answer_to, said, options().discovery.expiry, asked.nonce)
                    emit("inbox.answered", service=name)
            else:
                self._meet(room, statements.read_service(heard.body, name, "", keys))
        except RefusedError as error:
            self._refusals.add(str(error))

    def _meet(self, room: Broadcast, other: Service) -> None:
        """Another process announces a service of this name: if it remembers apart, both are to say so."""
        try:
            check_one_memory(self.service.name, [self.service, other])
        except ServiceConflictError as error:
            if not self._conflict:
                self._announce(room)
            self._disagree(error)

    def _look_for_others(self) -> None:
        """Raise :class:`ServiceConflictError` where a service of this name remembers apart: it was here first."""
        check_one_memory(self.service.name, [self.service, *asking.ask(self.service.name, OTHERS_TIMEOUT)])

    def _look_at_conflict(self) -> None:
        if self._conflict and time.monotonic() >= self._conflict_until:
            try:
                self._look_for_others()
            except ServiceConflictError as error:
                self._disagree(error)
            else:
                self._conflict = ""
                logger.info("No other service is called %r any more", self.service.name)

    def _disagree(self, error: ServiceConflictError) -> None:
        if not self._conflict:
            logger.error("%s", error)
            reporter.hurry()
        self._conflict, self._conflict_until = str(error), time.monotonic() + CONFLICT_SECONDS

    def _is_there(self, seconds: float) -> bool:
        """Whether the service answered at most ``seconds`` ago, or does now."""
        if time.monotonic() - self._checked_at < seconds:
            return True
        trouble = self._absence()
        if trouble:
            self._tell(trouble)
        self._checked_at = 0.0 if trouble else time.monotonic()
        return not trouble

    def _absence(self) -> str:
        """Why clients could not use the service now; empty when they could."""
        address = address_of(self.service.url, "", CHECK_TIMEOUT)
        try:
            address.check()
            with self.turn():
                configured().probe()
        except Unanswered as error:
            return f"nothing answers at {address.place}: {error}"
        except STORE_ERRORS as error:
            return redact_text(f"its store does not answer: {error}")
        finally:
            address.close()
        return ""

    def _tell(self, trouble: str) -> None:
        """Have the log and health say it when it is something else than before."""
        if trouble == self.trouble or (trouble and time.monotonic() < self._quiet_until):
            return
        self.trouble, self._quiet_until = trouble, 0.0
        if trouble:
            logger.error("The inbox service %r is not announced: %s", self.service.name, trouble)
        else:
            logger.info("The inbox service %r is announced at %s", self.service.name, self.service.url)
            reason = f"as {self.service.name!r}, store {self.service.store}, priority {self.service.priority}"
            facts.record(Fact("inbox.announcing", self.service.url, reason))
        reporter.hurry()


_running: list[Announcer] = []


def objections() -> Iterator[str]:
    """Yield why by these settings nothing can be announced."""
    if options().discovery.announce is None:
        yield "ANNOUNCE names no service"
    if options().store == "http":
        yield "ANNOUNCE is for who remembers: with STORE 'http' this project asks another service"
    yield from bus.objections()


def start() -> Announcer | None:
    """Announce the service from this process, until it ends; ``None`` where the settings announce none.

    For a process that serves the inbox itself, after it was forked: in ``wsgi.py``, under a server that loads it in
    each of its workers. Anywhere else ``koan_inbox_announce`` does it.
    """
    announce = options().discovery.announce
    return None if announce is None else begin(announce)


def begin(announce: AnnounceOptions) -> Announcer:
    """Announce ``announce`` from this process, if it does not yet, until it ends."""
    if not (_running and _running[0].is_alive()):
        _running[:] = [Announcer(announce)]
        _running[0].start()
        atexit.register(_running[0].stop, 5)
    return _running[0]


@health.probe("inbox.announcing", critical=False)
@reporter.source("inbox.announcing")
def finding() -> health.Finding | None:
    """How the announcer of this process is, if it has one."""
    return _running[0].finding() if _running else None
