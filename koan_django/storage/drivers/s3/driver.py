"""The S3 driver.

What fits into one part is one request, of which the store takes all or nothing. More is a multipart upload, which is
aborted when anything fails; what a process that died could not abort, :meth:`S3Driver.sweep` does. Creating is decided
by the store (``If-None-Match``), and the SHA-256 of what is sent is checked there where the store can.
"""

from __future__ import annotations

import base64
import contextlib
import io
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from botocore.exceptions import ClientError

from koan_django.storage import keys
from koan_django.storage.drivers.base import Capability, Driver, ObjectStat, Page, lacks
from koan_django.storage.exceptions import CapabilityError, ObjectNotFoundError, StorageRefusedError
from koan_django.storage.streams import BLOCK, HashingReader, StoredRange, sha256_of

from . import checks, reading, signing, sweeping
from .bucket import Bucket
from .multipart import pieces, ranges
from .refusals import status_of, translated
from .writing import Write, encoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from django.core.checks import CheckMessage
    from django.core.files.storage import Storage

    from koan_django.storage.drivers.base import PresignedUpload
    from koan_django.storage.streams import Readable

#: What a copy takes over from its source beside the bytes.
_KEPT = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Metadata")
#: Parts of a copy are not in memory here, so they may be large.
_COPY_PART = 512 * 1024**2


class S3Driver(Driver):
    """A bucket, or what lies below ``location`` in it. Serves ``S3Storage`` of django-storages and its subclasses."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    #: Larger objects are copied in parts; S3 copies 5 GiB in one request.
    copy_limit: ClassVar[int] = 5 * 1024**3

    def __init__(self, storage: Storage) -> None:
        self.bucket = Bucket(storage)

    @classmethod
    def check(cls, alias: str, options: Mapping[str, Any], *, deploy: bool = False) -> Iterable[CheckMessage]:
        return (checks.check_deployment if deploy else checks.check)(alias, options)

    @classmethod
    def store(cls, options: Mapping[str, Any]) -> str:
        names = ("endpoint_url", "bucket_name", "location")
        return repr([str(checks.option(options, name) or "").strip("/") for name in names])

    @property
    def client(self) -> Any:
        """The boto3 client that the backend made for this process."""
        return self.bucket.client

    @property
    def place(self) -> str:
        return f"s3://{self.bucket.account[0]}/{self.bucket.name}/{self.bucket.prefix}"

    @property
    def part_size(self) -> int:
        """How much is sent at once, in bytes."""
        return self.bucket.part_size

    def put(self, key: str, stream: Readable, *, overwrite: bool = False, content_type: str = "") -> ObjectStat:
        given = {"ContentType": content_type} if content_type else {}
        write = Write(self.bucket, key, self.capabilities, overwrite=overwrite, **given)
        reader = HashingReader(stream)
        parts = pieces(reader, self.part_size)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            write.send(first, reader.sha256)
        else:
            write.send_parts(chain((first, second), parts))
        return ObjectStat(key=key, size=reader.size, sha256=reader.sha256, content_type=content_type)

    def open(self, key: str) -> BinaryIO:
        raw, _size = reading.remote(self.bucket, key, reading.get(self.bucket, key))
        return io.BufferedReader(raw, BLOCK)

    def open_range(self, key: str, start: int, end: int | None = None) -> StoredRange:
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"{start}-{end} is no range: it begins at 0 or later and does not end before it begins")
        answer = reading.get(self.bucket, key, start, end)
        content_range = answer.get("ContentRange", "")
        if not content_range:
            answer["Body"].close()
            raise lacks(self, Capability.RANGE)
        raw, size = reading.remote(self.bucket, key, answer, start)
        return StoredRange(raw, start, start + size - 1, int(content_range.rpartition("/")[2]))

    def stat(self, key: str) -> ObjectStat:
        head = self._head(key)
        return ObjectStat(
            key=key,
            size=head["ContentLength"],
            modified_at=head["LastModified"].astimezone(UTC),
            sha256=_kept_sha256(head),
            content_type=head.get("ContentType", ""),
        )

    def exists(self, key: str) -> bool:
        try:
            self.bucket.head(key)
        except ObjectNotFoundError:
            return False
        return True

    def delete(self, key: str) -> bool:
        """Remove the object. The store does not tell whether there was one, so it is asked before."""
        if not self.exists(key):
            return False
        self.bucket.remove(key)
        return True

    def copy_within(self, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        return self.copy_from(self, source, target, overwrite=overwrite)

    def copy_from(self, origin: Driver, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        """Copy inside the store, also between its buckets; media type, metadata and cache headers come along."""
        if not isinstance(origin, S3Driver) or origin.bucket.account != self.bucket.account:
            raise lacks(self, Capability.SERVER_COPY)
        self.bucket.target(target)  # a wrong key is told before anything is asked
        head = origin.bucket.head(source)
        kept = {name: head[name] for name in _KEPT if head.get(name)}
        named, size = origin.bucket.target(source), head["ContentLength"]
        with _copying(target):
            write = Write(self.bucket, target, self.capabilities, overwrite=overwrite, **kept)
            if size <= self.copy_limit:
                write.copy(named)
            else:
                write.copy_parts(named, head["ETag"], ranges(size, min(self.copy_limit, _COPY_PART)))
        return ObjectStat(key=target, size=size, content_type=head.get("ContentType", ""))

    def checksum(self, key: str) -> str:
        """Return what the store computed itself and keeps; read the object where it did not, as with parts."""
        found = _kept_sha256(self._head(key))
        if found:
            return found
        with self.open(key) as stream:
            return sha256_of(stream)

    def list(self, prefix: str = "", *, after: str = "", cursor: str = "", limit: int = 1000) -> Page:
        """Return a page; more than 1000 are never on one. Objects whose key we would refuse are left out."""
        root = self.bucket.prefix
        asked = {"Bucket": self.bucket.name, "Prefix": root + prefix, "MaxKeys": min(limit, 1000)}
        if cursor:
            asked["ContinuationToken"] = cursor
        elif after:
            asked["StartAfter"] = root + after
        with translated(prefix):
            answer = self.client.list_objects_v2(**asked)
        found = (
            ObjectStat(
                key=entry["Key"].removeprefix(root),
                size=entry["Size"],
                modified_at=entry["LastModified"].astimezone(UTC),
            )
            for entry in answer.get("Contents", ())
        )
        shown = tuple(one for one in found if not keys.problem(one.key))
        return Page(shown, answer.get("NextContinuationToken"))

    def names(self, prefix: str = "") -> tuple[Sequence[str], Sequence[str]]:
        root = self.bucket.prefix + prefix
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.name, Prefix=root, Delimiter="/"
        )
        folders, files = set(), set()
        with translated(prefix):
            for page in pages:
                folders |= {entry["Prefix"].removeprefix(root).rstrip("/") for entry in page.get("CommonPrefixes", ())}
                files |= {entry["Key"].removeprefix(root) for entry in page.get("Contents", ())}
        return sorted(folders - {""}), sorted(files - {""})

    def sweep(self, age: timedelta, prefix: str = "") -> int:
        """Abort the multipart uploads below ``prefix`` that no part has been added to for ``age``."""
        return sweeping.abort_unfinished(self.bucket, prefix, datetime.now(UTC) - age)

    def probe(self) -> None:
        """Ask for the bucket, once and not for long. ``koan_storage_doctor`` tries whether it takes objects."""
        try:
            with translated(self.bucket.name):
                self.bucket.hasty.head_bucket(Bucket=self.bucket.name)
        except ObjectNotFoundError as error:
            fix = "Create it, or correct bucket_name in the OPTIONS of the alias of STORAGES."
            raise StorageRefusedError(f"there is no bucket {self.bucket.name!r}", fix=fix) from error

    def url(self, key: str) -> str:
        backend = self.bucket.storage
        if backend.custom_domain or not backend.querystring_auth:
            return str(backend.url(keys.check(key)))
        return self.presign_get(key, timedelta(seconds=backend.querystring_expire))

    def presign_get(self, key: str, expires: timedelta, *, disposition: str = "", content_type: str = "") -> str:
        given = {"ResponseContentDisposition": disposition, "ResponseContentType": content_type}
        parameters = {name: value for name, value in given.items() if value}
        return signing.signed(self.bucket, "get_object", key, expires, parameters)

    def presign_put(
        self, key: str, expires: timedelta, *, content_type: str = "", size: int | None = None, sha256: str = ""
    ) -> PresignedUpload:
        """Let the store refuse what is not as announced, and a second object where it can tell."""
        exclusive = Capability.EXCLUSIVE_CREATE in self.capabilities
        return signing.put(
            self.bucket, key, expires, content_type=content_type, size=size, sha256=sha256, exclusive=exclusive
        )

    def presign_post(
        self, key: str, expires: timedelta, *, content_type: str = "", max_size: int | None = None
    ) -> PresignedUpload:
        return signing.post(self.bucket, key, expires, content_type=content_type, max_size=max_size)

    def verifies(self, key: str) -> bool:
        try:
            with translated(key):
                self.client.put_object(**self.bucket.target(key), Body=b"koan", ChecksumSHA256=encoded("00" * 32))
        except StorageRefusedError as error:
            if isinstance(error.__cause__, ClientError) and status_of(error.__cause__) == 400:
                return True
            raise
        return False

    def _head(self, key: str) -> Mapping[str, Any]:
        return self.bucket.head(key, checksum=Capability.CHECKSUM in self.capabilities)


def _kept_sha256(head: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the whole object, if the store keeps it: that of parts is a hash of hashes."""
    kept = head.get("ChecksumSHA256", "")
    if not kept or "-" in kept or head.get("ChecksumType", "") == "COMPOSITE":
        return ""
    return base64.b64decode(kept).hex()


@contextlib.contextmanager
def _copying(key: str) -> Iterator[None]:
    """A store that refuses to copy may still let us read and write."""
    try:
        yield
    except StorageRefusedError as error:
        raise CapabilityError(f"the store does not copy to {key!r}", why=error.why, fix=error.fix) from error
