from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage

from koan_django.storage.drivers import writeback
from koan_django.storage.drivers.local import LocalDriver
from koan_django.storage.drivers.writeback import STEP

MIB = 1024 * 1024


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the kernel was asked to write out: (start, size)."""
    asked: list[tuple[int, int]] = []
    real = writeback.begin

    def begin(descriptor: int, start: int, size: int) -> bool:
        asked.append((start, size))
        return real(descriptor, start, size)

    monkeypatch.setattr(writeback, "begin", begin)
    return asked


def test_a_large_object_is_written_out_step_by_step_while_it_arrives(
    tmp_path: Path, begun: list[tuple[int, int]]
) -> None:
    data = bytes(2 * STEP + MIB)
    LocalDriver(FileSystemStorage(tmp_path)).put("large", io.BytesIO(data))
    assert begun == [(0, STEP), (STEP, STEP)]
    assert (tmp_path / "large").read_bytes() == data


def test_a_small_object_costs_no_call(tmp_path: Path, begun: list[tuple[int, int]]) -> None:
    LocalDriver(FileSystemStorage(tmp_path)).put("small", io.BytesIO(bytes(STEP - 1)))
    assert begun == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
def test_linux_does_it_for_files_and_says_so_when_it_cannot(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(MIB))
        assert writeback.begin(file.fileno(), 0, MIB)
    assert not writeback.begin(-1, 0, MIB)


def test_where_the_system_cannot_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writeback, "_system_call", lambda: None)
    found = LocalDriver(FileSystemStorage(tmp_path)).put("large", io.BytesIO(bytes(STEP)))
    assert found.size == (tmp_path / "large").stat().st_size == STEP
