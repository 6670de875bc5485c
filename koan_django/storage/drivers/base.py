"""What a driver is.

Django's storages differ in what they promise and lack ranges, server-side copies, conditional creation and paged
listing. A driver adds these for one family of backends, over the client that the backend already owns, and declares
what it can do. Keys are whole keys within the backend; errors are those of :mod:`koan_django.storage.exceptions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol

from koan_django.storage.exceptions import CapabilityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.files.storage import Storage

    from koan_django.storage.streams import Readable, StoredRange


class Capability(StrEnum):
    """What a driver may be able to do."""

    RANGE = "range"
    """Read some bytes without fetching the others."""
    EXCLUSIVE_CREATE = "exclusive-create"
    """Create an object only if there is none, whoever else tries at the same time."""
    ATOMIC_REPLACE = "atomic-replace"
    """Overwrite so that a reader sees the old object or the new one."""
    SERVER_COPY = "server-copy"
    """Copy within the store, without the bytes passing through this process."""
    LIST = "list"
    """List keys in order, in pages."""
    PRESIGNED_GET = "presigned-get"
    """Sign an address from which an object can be read for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStat:
    """What the store says about an object. Empty text: the store does not keep it."""

    key: str
    size: int
    modified_at: datetime | None = None
    sha256: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects in the order of their keys; ``cursor`` asks for the next page and is ``None`` on the last."""

    objects: tuple[ObjectStat, ...]
    cursor: str | None


class Driver(Protocol):
    """One store. Made once per profile and shared by threads; holds nothing that a fork would break."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self, storage: Storage) -> None:
        """Stand on ``storage``; open nothing yet."""

    @property
    def place(self) -> str:
        """What store this is. Two drivers of one place can copy between them."""

    def put(self, key: str, stream: Readable, *, overwrite: bool = False, content_type: str = "") -> ObjectStat:
        """Store ``stream``, read once, and return its size and SHA-256.

        A reader sees the whole object or none of it, also when this process dies. Raises ``ObjectExistsError`` unless
        ``overwrite``.
        """

    def open(self, key: str) -> BinaryIO:
        """Return the object as a stream to read; raises ``ObjectNotFoundError``."""

    def open_range(self, key: str, start: int, end: int | None = None) -> StoredRange:
        """Return the bytes from ``start`` to ``end``, both included and ``end`` cut to the object's.

        Raises ``RangeError`` when no byte lies in between.
        """

    def stat(self, key: str) -> ObjectStat:
        """Return what the store knows; raises ``ObjectNotFoundError``."""

    def exists(self, key: str) -> bool:
        """Whether there is an object."""

    def delete(self, key: str) -> bool:
        """Remove the object; return whether there was one."""

    def copy_within(self, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        """Copy an object inside the store."""
        raise lacks(self, Capability.SERVER_COPY)

    def checksum(self, key: str) -> str:
        """Return the SHA-256 of the bytes as the store holds them now, by reading them where it keeps none."""

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """Return at most ``limit`` objects whose key begins with ``prefix`` and comes behind ``after``."""
        raise lacks(self, Capability.LIST)

    def sweep(self, age: timedelta) -> int:
        """Remove what writes left that broke off longer than ``age`` ago; return how many."""
        return 0

    def probe(self) -> None:
        """Raise unless an object could be stored now. Cheap: asked before a process is called ready."""

    def presign_get(self, key: str, expires: timedelta) -> str:
        """Return an address that reads the object until ``expires`` from now."""
        raise lacks(self, Capability.PRESIGNED_GET)


def lacks(driver: Driver, capability: Capability) -> CapabilityError:
    """Return the error for what ``driver`` cannot do."""
    return CapabilityError(
        f"{type(driver).__name__} cannot do {capability.value}",
        why="its store has no such thing",
        fix="Ask profiles[...].capabilities first, or use a profile on another store.",
    )


def walk(driver: Driver, prefix: str = "", *, page: int = 1000) -> Iterator[ObjectStat]:
    """Iterate over all objects below ``prefix``, a page at a time."""
    cursor: str | None = ""
    while cursor is not None:
        found = driver.list(prefix, after=cursor, limit=page)
        yield from found.objects
        cursor = found.cursor
