"""Walks of a local store, in the order of keys."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from koan_django.storage import keys

if TYPE_CHECKING:
    from collections.abc import Iterator


def objects(root: str, prefix: str, after: str, limit: int) -> list[tuple[str, os.stat_result]]:
    """Return at most ``limit`` files as (key, status) whose key begins with ``prefix`` and comes behind ``after``."""
    found: list[tuple[str, os.stat_result]] = []
    if limit > 0 and os.path.lexists(root):
        for key, entry in _walk(root, "", prefix, after):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                found.append((key, entry.stat(follow_symlinks=False)))
            if len(found) == limit:
                break
    return found


def _walk(folder: str, base: str, prefix: str, after: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield files in the order of their whole keys: a folder sorts as if its name ended with a slash."""
    for name, entry in _sorted(folder, is_root=not base):
        key = base + name
        if entry.is_dir(follow_symlinks=False):
            # All keys of the folder begin with ``key``: skip it where none can fit.
            if (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                yield from _walk(entry.path, key, prefix, after)
        elif key.startswith(prefix) and key > after:
            yield key, entry


def _sorted(folder: str, *, is_root: bool) -> list[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as entries:
            named = [(entry.name + "/" * entry.is_dir(follow_symlinks=False), entry) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        if is_root:
            raise  # a store that cannot be read is not an empty one
        return []
    return sorted(((name, entry) for name, entry in named if _is_ours(name, entry)), key=lambda pair: pair[0])


def _is_ours(name: str, entry: os.DirEntry[str]) -> bool:
    is_plain = entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
    return is_plain and not keys.problem(name.rstrip("/"))


def remove_hidden(root: str, before: float) -> int:
    """Remove storage's own hidden files that were last written before the time ``before``; return how many."""
    removed = 0
    for folder, _folders, files in os.walk(root):
        for name in files:
            if name.startswith(keys.RESERVED):
                removed += _remove_old(os.path.join(folder, name), before)
    return removed


def _remove_old(path: str, before: float) -> bool:
    try:
        if os.stat(path, follow_symlinks=False).st_mtime >= before:
            return False
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
