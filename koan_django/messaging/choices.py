"""What messaging has chosen: where each bus is. A worker that elects one records the reasons itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.core.facts import Fact, source

from .conf import options, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@source("messaging")
def messaging_facts() -> Iterator[Fact]:
    """The buses by the settings; an elected one as the workers have proclaimed it, as far as this process knows."""
    found = options()
    for alias, bus in found.buses.items():
        if bus.url is not None:
            reason = f"KOAN['MESSAGING']['BUSES'][{alias!r}]['URL']"
            yield Fact(f"messaging.bus.{alias}", f"{bus.scheme}://{place_of(bus.url)}", reason)
        elif alias == found.elected:
            yield Fact(f"messaging.bus.{alias}", "elected by the workers", "no bus has a URL")
        else:
            yield Fact(f"messaging.bus.{alias}", "database://", "it has no URL")
