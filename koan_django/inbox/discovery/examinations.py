"""What ``koan_doctor`` asks of discovery: the service that is looked for answers, and the own one is announced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.doctor import examination
from koan_django.core.exceptions import KoanError
from koan_django.core.health import Finding
from koan_django.inbox.conf import options

from . import asking
from .selecting import described
from .wanted import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import AnnounceOptions

_LOOK = "Look whether it runs, on the same bus, with one of these keys and the same tenant."


@examination("inbox.discovery")
def services() -> Iterator[Finding]:
    """Ask the bus anew, whatever this process has kept."""
    if name := wanted():
        yield _found(name)
    if announce := options().discovery.announce:
        yield _announced(announce)


def _found(name: str) -> Finding:
    subject = f"inbox.service.{name}"
    try:
        selection = asking.heard(name)
    except KoanError as error:
        return Finding(subject, "unhealthy", str(error), remedy=error.fix or _LOOK)
    others = "".join(f"; also {described(each)}" for each in selection.others)
    return Finding(subject, "healthy", described(selection.service) + others)


def _announced(announce: AnnounceOptions) -> Finding:
    subject = f"inbox.announced.{announce.name}"
    try:
        answered = {each.url for each in asking.ask(announce.name)}
    except KoanError as error:
        return Finding(subject, "unhealthy", str(error), remedy=error.fix or _LOOK)
    if announce.url in answered:
        return Finding(subject, "healthy", f"{announce.url} is announced")
    remedy = "Run `manage.py koan_inbox_announce` beside it; its log says why the service is not announced."
    return Finding(subject, "unhealthy", f"nobody announces {announce.url}", remedy=remedy)
