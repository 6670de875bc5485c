"""A provider that counts, fails and waits as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from koan_django.core import redaction
from koan_django.secrets import Provider, SecretReference, SecretValue, resolver


class RemoteProvider(Provider):
    """A remote store in memory; every instance shares what the test put here."""

    values: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []
    batches: ClassVar[list[list[str]]] = []
    closed: ClassVar[list[object]] = []
    before: ClassVar[Callable[[], None] | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, **options: Any) -> None:
        self.options = options

    def fetch(self, reference: SecretReference) -> SecretValue | None:
        with self._lock:
            self.asked.append(reference.name)
        if RemoteProvider.before is not None:
            RemoteProvider.before()
        found = self.values.get(reference.name)
        return None if found is None else SecretValue(found)

    def fetch_many(self, references: Any) -> Any:
        self.batches.append([reference.name for reference in references])
        return super().fetch_many(references)

    def close(self) -> None:
        self.closed.append(self)


BACKEND = f"{__name__}.RemoteProvider"


@pytest.fixture
def remote() -> Iterator[type[RemoteProvider]]:
    """The store, empty."""
    for kept in (RemoteProvider.values, RemoteProvider.asked, RemoteProvider.batches, RemoteProvider.closed):
        kept.clear()
    RemoteProvider.before = None
    yield RemoteProvider
    RemoteProvider.before = None


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins and ends without what another one resolved."""
    before = redaction.registered()
    for name in ("_settled", "_last"):
        monkeypatch.setattr(resolver, name, None)
    yield
    for value in redaction.registered() - before:
        redaction.forget_value(value)
