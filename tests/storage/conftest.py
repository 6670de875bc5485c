"""Each test has stores of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from koan_django.core import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACKEND = "django.core.files.storage.FileSystemStorage"


@pytest.fixture(autouse=True)
def stores(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": BACKEND},
        "archive": {"BACKEND": BACKEND, "OPTIONS": {"location": str(tmp_path / "archive")}},
    }
    return tmp_path


@pytest.fixture
def files(stores: Path) -> Any:
    """Return the names of all files in both stores, those of storage itself included."""

    def found() -> list[str]:
        return sorted(str(path.relative_to(stores)) for path in stores.rglob("*") if path.is_file())

    return found


@pytest.fixture
def events() -> Iterator[list[telemetry.Event]]:
    """What storage reports while the test runs."""
    seen: list[telemetry.Event] = []
    end = telemetry.subscribe(seen.append, "storage.")
    yield seen
    end()
