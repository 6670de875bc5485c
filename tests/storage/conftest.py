"""Each test has stores of its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import create_loader

from koan_django.core import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.s3 import S3, Bucket

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


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """Read boto3's descriptions of S3 once: that takes most of the time of making a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", functools.cache(create_loader))
        yield


@pytest.fixture(scope="session")
def shared_bucket(s3: S3) -> Iterator[Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture
def bucket(shared_bucket: Bucket) -> Iterator[Bucket]:
    """An empty bucket. Making one for each test would take longer than the tests."""
    yield shared_bucket
    shared_bucket.clear()
