"""Directories entered one by one from the root, so that no link and no ``..`` ever leads out of it.

A check of the resolved path can be outrun by somebody who swaps a directory for a link after the check. Here each part
is opened relative to the directory before it and must be a directory itself, never a symbolic link. The root may be
one: it is the operator's.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from koan_django.core.exceptions import KoanError
from koan_django.storage.exceptions import (
    InvalidKeyError,
    ObjectNotFoundError,
    StorageFullError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_A_FOLDER = (errno.ELOOP, errno.ENOTDIR)


@contextmanager
def translated(key: str) -> Iterator[None]:
    """Turn what the operating system says about ``key`` into storage's errors."""
    try:
        yield
    except KoanError:
        raise
    except FileNotFoundError as error:
        raise not_found(key) from error
    except OSError as error:
        raise _translate(key, error) from error


def not_found(key: str) -> ObjectNotFoundError:
    """Return the error for a key without an object."""
    return ObjectNotFoundError(f"there is no object {key!r}", why="the store has nothing under this key")


def refused(key: str) -> InvalidKeyError:
    """Return the error for a key that leads through a link, or to what is no file."""
    return InvalidKeyError(
        f"{key!r} is no object",
        why="a symbolic link, or something that is neither a file nor a folder, stands in its way",
        fix="Storage follows no links below its root; replace it by what it points to.",
    )


def _translate(key: str, error: OSError) -> KoanError:
    if error.errno in _FULL:
        fix = "Free some space or raise the quota; the same write succeeds then."
        return StorageFullError(f"{key!r} could not be stored", why=f"{error.strerror}; nothing is left of it", fix=fix)
    if error.errno in _NOT_A_FOLDER:
        return refused(key)
    return StorageUnavailableError(
        f"the store failed at {key!r}",
        why=f"{error.strerror or error}",
        fix="Check that the folder is mounted, whole, and owned by the user of this process.",
    )


@contextmanager
def entered(root: str, parts: Sequence[str], *, create: bool, mode: int | None) -> Iterator[int]:
    """Open the folder ``parts`` below ``root`` and yield its descriptor; with ``create``, make what is missing."""
    if create:
        os.makedirs(root, exist_ok=True)
    descriptor = os.open(root, _DIRECTORY)
    try:
        for part in parts:
            below = _enter(descriptor, part, create=create, mode=mode)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(descriptor: int, part: str, *, create: bool, mode: int | None) -> int:
    try:
        return _open(descriptor, part, create=create)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(part, dir_fd=descriptor)
    except FileExistsError:
        return _open(descriptor, part, create=create)  # somebody else was faster
    os.fsync(descriptor)  # or the new folder may be gone after a power cut, with the object in it
    made = _open(descriptor, part, create=create)
    if mode is not None:
        os.fchmod(made, mode)  # mkdir's own mode is cut by the umask
    return made


def _open(descriptor: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        if error.errno not in _NOT_A_FOLDER:
            raise
        is_link = stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode)
        if is_link or create:
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), part) from error  # an object, and no folder
