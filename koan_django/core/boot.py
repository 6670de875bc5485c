"""The boot report: one block in the log that says what this process has chosen and why; and the facts of web processes.

A worker and beat report when they start, a web process at its first request.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import Error

from . import facts, process
from .clock import monotonic
from .environment import under_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import Fact

logger = logging.getLogger(__name__)

#: A web process renews its facts at a request, at most so often. One that serves nobody is forgotten after the rest.
RENEWAL_SECONDS = 60.0
WEB_TTL = timedelta(minutes=15)

#: The web process that has reported, and when its facts are to be renewed.
_web = (0, 0.0)


def report() -> None:
    """Write the report, and the facts for other processes."""
    log()
    publish()


def lines(found: Iterable[Fact]) -> list[str]:
    """Return facts as a block of text: subject, selection and reason, and below them what was not selected."""
    block: list[str] = []
    for fact in found:
        block.append(f"  {fact.subject:<28} {fact.selection:<24} {fact.reason}".rstrip())
        block += [f"  {'':<28} not {each.name}: {each.reason}" for each in fact.alternatives]
    return block


def publish(ttl: timedelta = facts.TTL) -> None:
    """Publish the facts; trouble with the database is logged, since nothing depends on them."""
    try:
        facts.publish(ttl)
    except Error as error:
        logger.warning("The facts of this process could not be published: %s", error)


def visit(**_: object) -> None:
    """A request begins: report at the first one, renew the facts at some of the others."""
    global _web
    pid, renewal = _web
    if (pid == os.getpid() and monotonic() < renewal) or under_test():
        return
    _web = (os.getpid(), monotonic() + RENEWAL_SECONDS)  # first: other requests go on
    if process.role() == process.UNNAMED:
        process.set_role("web")
    if pid != os.getpid():
        log()
    publish(WEB_TTL)


def log() -> None:
    """Write the report of this process to the log."""
    logger.info("This is %s\n%s", process.identity(), "\n".join(lines(facts.own())))
