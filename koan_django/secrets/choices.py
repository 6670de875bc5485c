"""What secrets have chosen: the chain of providers. Never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core import conf
from koan_django.core.facts import Alternative, Fact, source

from .conf import options
from .offline import is_offline

if TYPE_CHECKING:
    from collections.abc import Iterator


@source("secrets")
def secrets_facts() -> Iterator[Fact]:
    """Which providers are asked, in order, and which are known and not asked."""
    found = options()
    written = "CHAIN" in conf.effective(conf.current()).get("SECRETS", {})
    reason = "KOAN['SECRETS']['CHAIN']" if written else "no CHAIN is set"
    others = tuple(
        Alternative(alias, "not in CHAIN: only references that name it ask it")
        for alias in found.known()
        if alias not in found.chain
    )
    yield Fact("secrets.chain", ", ".join(found.chain), reason, others)
    if is_offline():
        yield Fact("secrets.offline", "yes", "KOAN_SECRETS=offline: missing secrets are placeholders")
