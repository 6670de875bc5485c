"""Where a broker may be found by a project that names none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from koan_django.core.election import Candidate

from .conf import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from koan_django.core.environment import Environment

#: Each may list several URLs, separated by commas or semicolons; the first is asked first.
VARIABLES = ("KOAN_RABBITMQ_URL", "Koan_RABBITMQ_URL", "RABBITMQ_URL")
BROKER_PRIORITY, DATABASE_PRIORITY = 100, 20
DATABASE = Candidate("database://", "database://", DATABASE_PRIORITY, "it needs no broker")
_SEPARATOR = re.compile(r"\s*[,;]\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)|[\s,;]+$")


def brokers(environ: Mapping[str, str], here: Environment) -> list[Candidate[str]]:
    """Return the brokers that the environment suggests, the best first and each once."""
    found: dict[str, Candidate[str]] = {}
    for url, origin in _suggested(environ, here):
        name = f"{url.partition('://')[0].lower()}://{place_of(url)}"
        found.setdefault(name, Candidate(name, url, BROKER_PRIORITY, origin))
    return list(found.values())


def _suggested(environ: Mapping[str, str], here: Environment) -> Iterator[tuple[str, str]]:
    for variable in VARIABLES:
        for url in filter(None, _SEPARATOR.split(environ.get(variable, "").strip())):
            yield url, f"the variable {variable}"
    if here.container:
        yield "amqp://guest:guest@rabbitmq:5672//", "the usual name of a broker beside a container"
    if here.debug:
        yield "amqp://guest:guest@localhost:5672//", "this machine, since DEBUG is on"
