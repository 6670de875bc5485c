"""What the local driver promises beyond the contract: it stays inside its root and survives a crash."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.storage import FileSystemStorage

from koan_django.core.classification import is_transient
from koan_django.storage import InvalidKeyError, ObjectExistsError, StorageFullError, StorageUnavailableError
from koan_django.storage.drivers.base import walk
from koan_django.storage.drivers.local import LocalDriver
from koan_django.testing.faults import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]


def make(root: Path, **options: Any) -> LocalDriver:
    return LocalDriver(FileSystemStorage(location=root, **options))


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "app"


@pytest.fixture
def driver(root: Path) -> LocalDriver:
    return make(root)


def test_a_sibling_with_the_same_beginning_is_out_of_reach(tmp_path: Path, driver: LocalDriver) -> None:
    evil = tmp_path / "app-evil"
    evil.mkdir()
    (evil / "secret").write_text("secret")
    driver.put("here", io.BytesIO(b"x"))
    for key in ("../app-evil/secret", "a/../../app-evil/secret", str(evil / "secret")):
        with pytest.raises(InvalidKeyError):
            driver.open(key)


@pytest.mark.parametrize("target", ["outside", "inside"])
def test_a_linked_folder_is_refused_wherever_it_leads(
    tmp_path: Path, root: Path, driver: LocalDriver, target: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    driver.put("real/object", io.BytesIO(b"x"))
    (root / "link").symlink_to(outside if target == "outside" else root / "real")
    attempts: list[Callable[[], object]] = [
        lambda: driver.open("link/secret"),
        lambda: driver.stat("link/object"),
        lambda: driver.exists("link/secret"),
        lambda: driver.delete("link/secret"),
        lambda: driver.put("link/new", io.BytesIO(b"x")),
        lambda: driver.put("link/deep/new", io.BytesIO(b"x")),
        lambda: driver.copy_within("real/object", "link/copy"),
        lambda: driver.open("link"),
        lambda: driver.delete("link"),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidKeyError):
            attempt()
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert files_in(root / "real") == ["object"]
    assert [found.key for found in walk(driver)] == ["real/object"]


def test_a_linked_object_is_refused_and_overwriting_replaces_the_link(
    tmp_path: Path, root: Path, driver: LocalDriver
) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    root.mkdir()
    (root / "k").symlink_to(outside)
    for attempt in (lambda: driver.open("k"), lambda: driver.checksum("k"), lambda: driver.delete("k")):
        with pytest.raises(InvalidKeyError):
            attempt()
    with pytest.raises(ObjectExistsError):
        driver.put("k", io.BytesIO(b"mine"))
    driver.put("k", io.BytesIO(b"mine"), overwrite=True)
    assert outside.read_text() == "secret"
    assert (root / "k").read_bytes() == b"mine"


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "media").symlink_to(tmp_path / "volume")
    driver = make(tmp_path / "media")
    driver.put("a/b", io.BytesIO(b"x"))
    assert (tmp_path / "volume/a/b").read_bytes() == b"x"
    assert [found.key for found in driver.list().objects] == ["a/b"]
    assert driver.place == make(tmp_path / "volume").place


def test_a_pipe_in_the_store_does_not_hang(root: Path, driver: LocalDriver) -> None:
    root.mkdir()
    os.mkfifo(root / "pipe")
    assert not driver.exists("pipe")
    with pytest.raises(FileNotFoundError):
        driver.open("pipe")


def test_modes_are_those_of_the_backend(root: Path) -> None:
    driver = make(root, file_permissions_mode=0o640, directory_permissions_mode=0o750)
    driver.put("a/b", io.BytesIO(b"x"))
    driver.copy_within("a/b", "a/c")
    assert {oct((root / name).stat().st_mode & 0o777) for name in ("a/b", "a/c")} == {"0o640"}
    assert oct((root / "a").stat().st_mode & 0o777) == "0o750"


def test_the_file_and_its_folder_are_flushed_before_put_returns(
    driver: LocalDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def flush(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def name(*args: Any, **kwargs: Any) -> None:
        events.append("named")
        link(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "link", name)
    driver.put("a/b", io.BytesIO(b"x"))
    assert events[-3:] == ["file", "named", "folder"]
    assert "folder" in events[:-3]  # the new folder's own name


@pytest.mark.parametrize("said", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links_still_creates_once(
    root: Path, driver: LocalDriver, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(said, os.strerror(said))

    monkeypatch.setattr(os, "link", refuse)
    driver.put("k", io.BytesIO(b"first"))
    with pytest.raises(ObjectExistsError):
        driver.put("k", io.BytesIO(b"second"))
    assert (root / "k").read_bytes() == b"first"
    assert files_in(root) == ["k"]


def test_hidden_leftovers_are_no_objects_and_are_swept_when_old(root: Path, driver: LocalDriver) -> None:
    driver.put("a/b", io.BytesIO(b"x"))
    old, fresh = root / "a/.koan-old", root / "a/.koan-fresh"
    for path in (old, fresh):
        path.write_text("half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert [found.key for found in walk(driver)] == ["a/b"]
    assert driver.sweep(timedelta(hours=1)) == 1
    assert files_in(root) == ["a/.koan-fresh", "a/b"]


WRITER = """
import sys, time
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[], USE_TZ=True)
django.setup()
from django.core.files.storage import FileSystemStorage
from koan_django.storage.drivers.local import LocalDriver
from koan_django.testing.faults import arm_from_environment

arm_from_environment()

class Slow:
    def __init__(self, fill, blocks, pause):
        self.fill, self.left, self.pause = fill, blocks, pause
    def read(self, size=-1):
        if not self.left:
            return b""
        self.left -= 1
        time.sleep(self.pause)
        return self.fill * 65536

driver = LocalDriver(FileSystemStorage(location=sys.argv[1]))
number = 0
print("ready", flush=True)
while True:
    number += 1
    driver.put("photo", Slow(b"ab"[number % 2 : number % 2 + 1], 20, float(sys.argv[2])), overwrite=True)
"""


@pytest.fixture
def writer(root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(pause: float, **environ: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", WRITER, str(root), str(pause)]
        process = subprocess.Popen(
            arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_killed_in_mid_write_leaves_the_old_object_whole(
    root: Path, driver: LocalDriver, writer: Callable[..., subprocess.Popen[str]]
) -> None:
    driver.put("photo", io.BytesIO(b"old"))
    process = writer(0.2)
    wait_for(lambda: any(path.stat().st_size > 65536 for path in root.glob(".koan-*")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (root / "photo").read_bytes() == b"old"
    assert [found.key for found in walk(driver)] == ["photo"]
    assert len(files_in(root)) == 2  # the broken-off write is still there, hidden
    assert driver.sweep(timedelta(seconds=-5)) == 1
    assert files_in(root) == ["photo"]


@pytest.mark.parametrize(
    ("point", "left"),
    [("storage.local.before_replace", b"old"), ("storage.local.replaced", b"b" * 65536 * 20)],
    ids=["before", "after"],
)
def test_killed_around_the_replacement_leaves_the_old_object_or_the_new_one(
    root: Path, driver: LocalDriver, writer: Callable[..., subprocess.Popen[str]], point: str, left: bytes
) -> None:
    driver.put("photo", io.BytesIO(b"old"))
    assert writer(0, **environment(point)).wait(20) == -signal.SIGKILL
    assert (root / "photo").read_bytes() == left
    assert [found.key for found in walk(driver)] == ["photo"]


FULL = """
import io, resource, sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[], USE_TZ=True)
django.setup()
from django.core.files.storage import FileSystemStorage
from koan_django.storage import StorageFullError
from koan_django.storage.drivers.local import LocalDriver

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
driver = LocalDriver(FileSystemStorage(location=sys.argv[1]))
try:
    driver.put("big", io.BytesIO(b"x" * 3_000_000))
except StorageFullError as error:
    print(error.transient, error)
driver.put("small", io.BytesIO(b"fits"))
"""


def test_a_limit_that_is_hit_is_a_clear_transient_error_and_leaves_nothing(root: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    found = subprocess.run(
        [sys.executable, "-c", FULL, str(root)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.startswith("True 'big' could not be stored: File too large; nothing is left of it.")
    assert files_in(root) == ["small"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "koan-tests", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_clear_transient_error_and_keeps_what_was_there(tiny: Path) -> None:
    driver = make(tiny)
    driver.put("k", io.BytesIO(b"old" * 1000))
    with pytest.raises(StorageFullError, match="No space left") as caught:
        driver.put("k", io.BytesIO(os.urandom(1_000_000)), overwrite=True)
    assert is_transient(caught.value)
    with pytest.raises(StorageFullError):
        driver.put("new/folder/k", io.BytesIO(os.urandom(1_000_000)))
    assert files_in(tiny) == ["k"]
    assert (tiny / "k").read_bytes() == b"old" * 1000
    driver.put("fits", io.BytesIO(b"y" * 1000))


def test_the_probe_notices_a_full_disk(tiny: Path) -> None:
    driver = make(tiny)
    driver.probe()
    with pytest.raises(OSError, match="No space left"):
        (tiny / "filler").write_bytes(b"x" * 1_000_000)
    with pytest.raises(StorageFullError):
        driver.probe()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "frozen"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "koan-tests", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a read-only disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk_is_unavailable_and_says_what_to_check(read_only: Path) -> None:
    driver = make(read_only)
    with pytest.raises(
        StorageUnavailableError, match=r"Read-only file system.*Check that the folder is mounted"
    ) as caught:
        driver.put("k", io.BytesIO(b"x"))
    assert is_transient(caught.value)
    with pytest.raises(StorageUnavailableError):
        driver.probe()


def test_a_file_in_place_of_the_root_is_an_error_and_no_empty_store(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    driver = make(tmp_path / "root")
    with pytest.raises((StorageUnavailableError, InvalidKeyError)):
        driver.put("k", io.BytesIO(b"x"))
    with pytest.raises((StorageUnavailableError, InvalidKeyError)):
        driver.probe()
    with pytest.raises((StorageUnavailableError, InvalidKeyError)):
        driver.list()
