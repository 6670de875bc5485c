from __future__ import annotations

from collections.abc import Iterator

import pytest

from koan_django.core import telemetry


class Counter:
    """Events of one name, as they stop."""

    def __init__(self, name: str) -> None:
        self.events: list[telemetry.Event] = []
        self.end = telemetry.subscribe(self._seen, name)

    def _seen(self, event: telemetry.Event) -> None:
        if event.phase in ("stop", "exception", "fact"):
            self.events.append(event)

    def __len__(self) -> int:
        return len(self.events)


@pytest.fixture
def decodes() -> Iterator[Counter]:
    counter = Counter("media.decode")
    yield counter
    counter.end()


@pytest.fixture
def storage_calls() -> Iterator[Counter]:
    counter = Counter("storage.")
    yield counter
    counter.end()
