"""What secrets show on the Overview page: the chain, never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.overview import Line, panel

from .exceptions import SecretError
from .offline import is_offline
from .resolver import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .chain import Chain


@panel("koan_secrets.chain", "Secrets", order=60)
def chain_panel() -> Iterator[Line]:
    """The providers in the order they are asked."""
    if is_offline():
        yield Line("mode", "KOAN_SECRETS=offline", "unhealthy")
    chain = current()
    yield Line("chain", ", ".join(chain.options.chain))
    for alias in chain.options.chain:
        yield _line(chain, alias)
    yield Line("kept values", str(len(chain.cache)))


def _line(chain: Chain, alias: str) -> Line:
    try:
        provider = chain.provider(alias)
    except SecretError as error:
        return Line(alias, str(error), "unhealthy")
    problems = list(provider.problems())
    place = "remote" if provider.is_remote else "local"
    text = "; ".join([f"{type(provider).__name__}, {place}", *problems])
    return Line(alias, text, "degraded" if problems else "healthy")
