"""The local driver: objects are files below the location of Django's ``FileSystemStorage``.

A write goes to a hidden file in the folder of its target, is flushed to the disk, and only then gets its name; the
folder is flushed as well. Whatever dies in between leaves the old object or the new one, and at most a hidden file that
:meth:`LocalDriver.sweep` removes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from koan_django.core import clock, faults
from koan_django.storage import keys
from koan_django.storage.exceptions import ObjectExistsError, RangeError
from koan_django.storage.streams import BLOCK, HashingReader, StoredRange, sha256_of

from . import tree
from .base import Capability, Driver, ObjectStat, Page
from .folders import entered, not_found, refused, translated
from .writeback import WriteBack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from django.core.files.storage import Storage

    from koan_django.storage.streams import Readable

_BEFORE_REPLACE = faults.point("storage.local.before_replace")
_REPLACED = faults.point("storage.local.replaced")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: What file systems without hard links say.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalDriver(Driver):
    """Files on a disk that this machine has mounted. Serves every subclass of ``FileSystemStorage``."""

    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.RANGE,
            Capability.EXCLUSIVE_CREATE,
            Capability.ATOMIC_REPLACE,
            Capability.SERVER_COPY,
            Capability.LIST,
            Capability.ORDERED_LIST,
        }
    )

    def __init__(self, storage: Storage) -> None:
        self._storage: Any = storage

    @property
    def root(self) -> str:
        """The folder that holds everything."""
        location: str = self._storage.location
        return os.path.realpath(location)

    @property
    def place(self) -> str:
        return f"file://{self.root}"

    def put(self, key: str, stream: Readable, *, overwrite: bool = False, content_type: str = "") -> ObjectStat:
        reader = HashingReader(stream)
        with self._folder(key, create=True) as (folder, leaf), _temporary(folder, key) as (temporary, descriptor):
            if not overwrite:
                _refuse_taken(folder, leaf, key)
            behind = WriteBack(descriptor)
            for block in reader.blocks():  # outside of translated(): what the stream raises is the caller's
                with translated(key):
                    _write(descriptor, block)
                behind.wrote(len(block))
            with translated(key):
                self._publish(descriptor, temporary, folder, key, overwrite=overwrite)
        return ObjectStat(key=key, size=reader.size, sha256=reader.sha256, content_type=content_type)

    def open(self, key: str) -> BinaryIO:
        return io.BufferedReader(io.FileIO(self._descriptor(key)), BLOCK)

    def open_range(self, key: str, start: int, end: int | None = None) -> StoredRange:
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"{start}-{end} is no range: it begins at 0 or later and does not end before it begins")
        descriptor = self._descriptor(key)
        total = os.fstat(descriptor).st_size
        if start >= total:
            os.close(descriptor)
            raise RangeError(f"{key!r} has no byte {start}", why=f"it is {total} bytes long", size=total)
        last = total - 1 if end is None else min(end, total - 1)
        return StoredRange(_Slice(descriptor, start, last + 1), start, last, total)

    def stat(self, key: str) -> ObjectStat:
        with self._folder(key) as (folder, leaf), translated(key):
            return _stat_of(key, os.stat(leaf, dir_fd=folder, follow_symlinks=False))

    def exists(self, key: str) -> bool:
        try:
            self.stat(key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> bool:
        try:
            self.stat(key)
            with self._folder(key) as (folder, leaf), translated(key):
                os.unlink(leaf, dir_fd=folder)
                os.fsync(folder)
        except FileNotFoundError:
            return False
        return True

    def copy_within(self, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        """Copy in the kernel, which shares the blocks where the file system can."""
        descriptor = self._descriptor(source)
        try:
            with (
                self._folder(target, create=True) as (folder, _leaf),
                _temporary(folder, target) as (temporary, copy),
                translated(target),
            ):
                _copy(descriptor, copy)
                self._publish(copy, temporary, folder, target, overwrite=overwrite)
        finally:
            os.close(descriptor)
        return self.stat(target)

    def checksum(self, key: str) -> str:
        with self.open(key) as stream:
            return sha256_of(stream)

    def list(self, prefix: str = "", *, after: str = "", cursor: str = "", limit: int = 1000) -> Page:
        with translated(prefix):
            found = tree.objects(self.root, prefix, cursor or after, limit + 1)
        shown = tuple(_stat_of(key, status) for key, status in found[:limit])
        return Page(shown, shown[-1].key if len(found) > limit else None)

    def sweep(self, age: timedelta, prefix: str = "") -> int:
        """Remove the hidden files that broken-off writes left, wherever: their name says whose they are."""
        before = (clock.now() - age).timestamp()
        return tree.remove_hidden(self.root, before)

    def url(self, key: str) -> str:
        return str(self._storage.url(key))

    def probe(self) -> None:
        """Write and remove a hidden file; without the folder, ask whether it may be made."""
        root = self.root
        with translated(root):
            if not os.path.lexists(root):
                _require_parent(root)
                return
            with entered(root, (), create=False, mode=None) as folder, _temporary(folder, root) as (_, descriptor):
                _write(descriptor, b"koan")

    @contextmanager
    def _folder(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the key's folder, and the last part of the key."""
        *parts, leaf = keys.check(key).split("/")
        mode = self._storage.directory_permissions_mode
        with contextlib.ExitStack() as stack:
            with translated(key):
                folder = stack.enter_context(entered(self._storage.location, parts, create=create, mode=mode))
            yield folder, leaf

    def _descriptor(self, key: str) -> int:
        with self._folder(key) as (folder, leaf), translated(key):
            descriptor = os.open(leaf, _READ, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise not_found(key)
        return descriptor

    def _publish(self, descriptor: int, temporary: str, folder: int, key: str, *, overwrite: bool) -> None:
        """Give a finished file its name, for good."""
        leaf = key.rpartition("/")[2]
        mode = self._storage.file_permissions_mode
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
        _BEFORE_REPLACE()
        if overwrite:
            os.replace(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            _link(temporary, folder, leaf, key)
        _REPLACED()
        os.fsync(folder)


class _Slice(io.RawIOBase):
    """Bytes of a file from ``start`` up to ``stop``, read without a position that others could move."""

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self._descriptor = descriptor
        self._at = start
        self._stop = stop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._stop - self._at)
        data = os.pread(self._descriptor, wanted, self._at) if wanted > 0 else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@contextmanager
def _temporary(folder: int, key: str) -> Iterator[tuple[str, int]]:
    """Yield the name and descriptor of a new hidden file, which is gone afterwards unless it was renamed."""
    name = f"{keys.RESERVED}{uuid.uuid4().hex}"
    with translated(key):
        descriptor = os.open(name, _WRITE, 0o666, dir_fd=folder)
    try:
        yield name, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _write(descriptor: int, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[os.write(descriptor, left) :]


def _copy(source: int, target: int) -> None:
    """Copy all of ``source``: in the kernel as far as that goes, the rest block by block."""
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):  # not between these file systems; a full disk shows again below
            while os.copy_file_range(source, target, 1 << 30):
                pass
    while block := os.read(source, BLOCK):
        _write(target, block)


def _link(temporary: str, folder: int, leaf: str, key: str) -> None:
    """Name the file unless the name is taken, as one step."""
    try:
        os.link(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError as error:
        raise _taken(key) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:  # claim the name, then fill it: whoever reads in between sees an empty file, and nobody knows the key yet
            os.close(os.open(leaf, _WRITE, 0o600, dir_fd=folder))
        except FileExistsError:
            raise _taken(key) from error
        os.replace(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)


def _taken(key: str) -> ObjectExistsError:
    return ObjectExistsError(f"there is an object {key!r} already", fix="Use another key, or overwrite=True.")


def _refuse_taken(folder: int, leaf: str, key: str) -> None:
    """Say so before the bytes are written; the link at the end is what decides."""
    with contextlib.suppress(FileNotFoundError), translated(key):
        os.stat(leaf, dir_fd=folder, follow_symlinks=False)
        raise _taken(key)


def _stat_of(key: str, status: os.stat_result) -> ObjectStat:
    if stat.S_ISLNK(status.st_mode):
        raise refused(key)
    if not stat.S_ISREG(status.st_mode):
        raise not_found(key)
    return ObjectStat(key=key, size=status.st_size, modified_at=datetime.fromtimestamp(status.st_mtime, UTC))


def _require_parent(root: str) -> None:
    parent = os.path.dirname(root)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{root} is missing and {parent} is not writable")
