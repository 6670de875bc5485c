"""What a driver is.

Django's storages differ in what they promise and lack ranges, server-side copies, conditional creation and paged
listing. A driver adds these for one family of backends, over the client that the backend already owns, and declares
what it can do. Keys are whole keys within the backend; errors are those of :mod:`koan_django.storage.exceptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from koan_django.storage.exceptions import CapabilityError, NoURLError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.core.checks import CheckMessage
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
    """List keys in pages."""
    ORDERED_LIST = "ordered-list"
    """List keys in their order, which is that of their bytes in UTF-8."""
    PRESIGNED_GET = "presigned-get"
    """Sign an address from which an object can be read for a while."""
    PRESIGNED_PUT = "presigned-put"
    """Sign an address to which an object can be sent for a while."""
    PRESIGNED_POST = "presigned-post"
    """Sign a form by which an object can be sent for a while, no larger than it says."""
    CHECKSUM = "checksum"
    """Refuse what does not have the SHA-256 that was sent along, and keep that."""


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
    """Some objects; ``cursor`` asks for the next page, and is ``None`` on the last."""

    objects: tuple[ObjectStat, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class PresignedUpload:
    """How a client sends one object straight to the store.

    ``PUT``: the bytes are the body, sent with exactly these ``headers``. ``POST``: a multipart form with these
    ``fields`` first and the file, in a field called ``file``, last.
    """

    method: Literal["PUT", "POST"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    #: What takes the upload over once it has arrived, where a model announced it.
    token: str = ""


class Driver(Protocol):
    """One store. Made once per profile and shared by threads; holds nothing that a fork would break."""

    #: What this store can do. ``WITHOUT`` of the profile takes away what its settings deny.
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, storage: Storage) -> None:
        """Stand on ``storage``; open nothing yet."""

    @classmethod
    def check(cls, alias: str, options: Mapping[str, Any], *, deploy: bool = False) -> Iterable[CheckMessage]:
        """Return what is wrong with the ``OPTIONS`` of ``STORAGES[alias]``, without making the backend."""
        return ()

    @classmethod
    def store(cls, options: Mapping[str, Any]) -> str:
        """Return what store a backend with these ``OPTIONS`` would stand for, without making it."""
        return repr(sorted(options.items()))

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

    def copy_from(self, origin: Driver, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        """Copy an object of another driver without its bytes passing through here.

        Raises ``CapabilityError`` where the stores are too far apart, or when they refuse.
        """
        if origin.place != self.place:
            raise lacks(self, Capability.SERVER_COPY)
        return self.copy_within(source, target, overwrite=overwrite)

    def checksum(self, key: str) -> str:
        """Return the SHA-256 of the bytes as the store holds them now, by reading them where it keeps none."""

    def list(self, prefix: str = "", *, after: str = "", cursor: str = "", limit: int = 1000) -> Page:
        """Return at most ``limit`` objects whose key begins with ``prefix`` and comes behind ``after``.

        In the order of keys where the store has ``ORDERED_LIST``, in an order of its own otherwise. ``cursor`` is that
        of the page before, and then takes the place of ``after``.
        """
        raise lacks(self, Capability.LIST)

    def names(self, prefix: str = "") -> tuple[Sequence[str], Sequence[str]]:
        """Return the names of the folders and of the objects directly in ``prefix``, which ends with a slash."""
        below = [found.key.removeprefix(prefix) for found in walk(self, prefix)]
        folders = {key.partition("/")[0] for key in below if "/" in key}
        return sorted(folders), sorted(key for key in below if "/" not in key)

    def sweep(self, age: timedelta, prefix: str = "") -> int:
        """Remove what writes left that broke off longer than ``age`` ago; return how many.

        Where others may write to the store as well, only what was meant to be a key below ``prefix``.
        """
        return 0

    def probe(self) -> None:
        """Raise unless an object could be stored now. Cheap: asked before a process is called ready."""

    def url(self, key: str) -> str:
        """Return the address that the backend gives to the object; raises ``NoURLError``."""
        raise NoURLError(f"{type(self).__name__} knows no addresses", fix="Serve its objects by a view.")

    def presign_get(self, key: str, expires: timedelta, *, disposition: str = "", content_type: str = "") -> str:
        """Return an address that reads the object until ``expires`` from now, with these headers in the answer."""
        raise lacks(self, Capability.PRESIGNED_GET)

    def presign_put(
        self, key: str, expires: timedelta, *, content_type: str = "", size: int | None = None, sha256: str = ""
    ) -> PresignedUpload:
        """Return how the object can be sent until ``expires`` from now, with the type, size and hash that are given."""
        raise lacks(self, Capability.PRESIGNED_PUT)

    def presign_post(
        self, key: str, expires: timedelta, *, content_type: str = "", max_size: int | None = None
    ) -> PresignedUpload:
        """Return a form that sends the object until ``expires`` from now, if it has at most ``max_size`` bytes."""
        raise lacks(self, Capability.PRESIGNED_POST)

    def verifies(self, key: str) -> bool:
        """Whether the store refuses a wrong SHA-256: tried with ``key``, which is not in use and will not be."""
        return False


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
        found = driver.list(prefix, cursor=cursor, limit=page)
        yield from found.objects
        cursor = found.cursor
