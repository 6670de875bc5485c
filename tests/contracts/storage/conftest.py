"""The drivers that the contract is asked of. A new driver joins by one more function in ``MAKERS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.storage import FileSystemStorage

from koan_django.storage.drivers.local import LocalDriver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from koan_django.storage.drivers.base import Driver


def _local(folder: Path) -> Driver:
    return LocalDriver(FileSystemStorage(location=folder / "root"))


MAKERS: dict[str, Callable[[Path], Driver]] = {"local": _local}


@pytest.fixture(params=sorted(MAKERS))
def driver(request: Any, tmp_path: Path) -> Driver:
    return MAKERS[request.param](tmp_path)
