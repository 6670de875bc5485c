"""The drivers that the contract is asked of. A new driver joins by one more function in ``MAKERS``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.storage import FileSystemStorage

from koan_django.storage.drivers.base import Capability
from koan_django.storage.drivers.local import LocalDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from koan_django.storage.drivers.base import Driver


def _local(request: Any) -> Driver:
    return LocalDriver(FileSystemStorage(location=request.getfixturevalue("tmp_path") / "root"))


def _s3(request: Any) -> Driver:
    """A folder of its own in one bucket: making a bucket takes longer than most tests."""
    backend = request.getfixturevalue("s3_backend")
    backend.location = uuid.uuid4().hex
    driver: Driver = request.getfixturevalue("s3_driver")
    driver.capabilities = frozenset(Capability) - {Capability.ORDERED_LIST}  # SeaweedFS sorts "a/b" before "a-b"
    return driver


MAKERS: dict[str, Callable[[Any], Driver]] = {"local": _local, "s3": _s3}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services("s3"))])
def driver(request: Any) -> Driver:
    return MAKERS[request.param](request)


@pytest.fixture(scope="session")
def s3_backend(s3: Any) -> Any:
    from storages.backends.s3 import S3Storage

    with s3.bucket() as bucket:
        yield S3Storage(**bucket.options)


@pytest.fixture(scope="session")
def s3_driver(s3_backend: Any) -> Driver:
    """One for all tests, since a client takes a while to make."""
    from koan_django.storage.drivers.s3 import S3Driver

    return S3Driver(s3_backend)
