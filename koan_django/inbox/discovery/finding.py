"""The service that this process asks, found once and kept for a while."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from koan_django.core import clock, conf, facts, health
from koan_django.core.exceptions import KoanError, StoreUnavailableError
from koan_django.core.facts import Alternative, Fact
from koan_django.core.redaction import redact_text
from koan_django.core.stores import STORE_ERRORS
from koan_django.core.telemetry import span
from koan_django.inbox.conf import options

from . import asking
from .refusals import TOLD

if TYPE_CHECKING:
    from .selecting import Selection
    from .statements import Service

#: What stands before the name of a service in the place of its address.
SCHEME = "discover:"
#: Whoever waited while another looked in vain is told the same, and does not look again.
VAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was found, and until when it counts by the clock that never goes back."""

    until: float
    url: str = ""
    error: StoreUnavailableError | None = None


_kept: dict[str, _Kept] = {}
#: Addresses that have failed, by the name of the service.
_failed: dict[str, str] = {}
_lock = threading.Lock()


def find(name: str) -> str:
    """Return the address of the service called ``name``; raises :class:`StoreUnavailableError`."""
    kept = _known(name)
    if kept is None:
        with _lock:
            kept = _known(name)
            if kept is None:
                kept = _kept[name] = _look(name)
    if kept.error is not None:
        raise kept.error
    return kept.url


def failed(name: str, url: str) -> None:
    """The service at ``url`` did not answer: look for another the next time."""
    kept = _kept.get(name)
    if kept is not None and kept.url == url:
        _failed[name] = url
        _kept.pop(name, None)


@conf.on_reset
def forget() -> None:
    """Look anew for every service."""
    _kept.clear()
    _failed.clear()


def _known(name: str) -> _Kept | None:
    kept = _kept.get(name)
    return kept if kept is not None and clock.monotonic() < kept.until else None


def _look(name: str) -> _Kept:
    before = asking.refusals.total
    try:
        with span("inbox.discover", service=name):
            selection = asking.heard(name, _failed.pop(name, ""))
    except StoreUnavailableError as error:
        facts.forget(subject(name))
        return _Kept(clock.monotonic() + VAIN_SECONDS, error=error)
    except KoanError as error:  # of the bus, or of the secrets
        facts.forget(subject(name))
        text = redact_text(str(error))
        unavailable = StoreUnavailableError(f"the inbox service {name!r} cannot be looked for", why=text)
        return _Kept(clock.monotonic() + VAIN_SECONDS, error=unavailable)
    finally:
        if asking.refusals.total > before:
            _tell()
    _record(name, selection)
    return _Kept(clock.monotonic() + options().discovery.cache.total_seconds(), selection.service.url)


def _record(name: str, selection: Selection) -> None:
    def standing(service: Service) -> str:
        return f"protocol {service.protocol}, priority {service.priority}, announced by {service.instance}"

    others = tuple(Alternative(each.url, standing(each)) for each in selection.others)
    facts.record(Fact(subject(name), selection.service.url, standing(selection.service), others))


def subject(name: str) -> str:
    """Return the subject of the fact that says which service was found."""
    return f"inbox.service.{name}"


def _tell() -> None:
    """Have health say that somebody says on the bus what is not to be believed."""
    text = f"not believed since this process began: {asking.refusals.text}"
    with suppress(*STORE_ERRORS):
        health.report("inbox.discovery", "degraded", text, ttl=TOLD)


def _after_fork() -> None:
    """What is known stays true in a child; a lock that another thread held would stay locked."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
