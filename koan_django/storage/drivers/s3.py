"""The S3 driver: objects in a bucket, by django-storages' backend and the boto3 client that it makes.

What fits into one part is one request, of which the store takes all or nothing. More is a multipart upload, which is
aborted when anything fails; what a process that died could not abort, :meth:`S3Driver.sweep` does. Creating is decided
by the store (``If-None-Match``), and the SHA-256 of what is sent is checked there where the store can.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import os
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from koan_django.storage import keys
from koan_django.storage.exceptions import (
    CapabilityError,
    ObjectExistsError,
    ObjectNotFoundError,
    RangeError,
    StorageRefusedError,
    StorageUnavailableError,
)
from koan_django.storage.streams import BLOCK, HashingReader, StoredRange, sha256_of

from . import s3checks
from .base import Capability, Driver, ObjectStat, Page, PresignedUpload, lacks
from .multipart import Upload, gather, pieces, ranges
from .refusals import changed, status_of, taken, translated
from .remote import RemoteBytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from django.core.checks import CheckMessage
    from django.core.files.storage import Storage

    from koan_django.storage.streams import Readable

    from .remote import Body

#: What the client does unless ``client_config`` of the backend says otherwise.
_CLIENT = Config(
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
    retries={"mode": "standard", "total_max_attempts": 3},
)
#: Of the backend's ``object_parameters``, those that reading an object and sending a part of one need as well.
_SHARED = ("SSECustomerAlgorithm", "SSECustomerKey", "SSECustomerKeyMD5", "RequestPayer", "ExpectedBucketOwner")
#: What a copy takes over from its source beside the bytes.
_KEPT = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType")
#: In the metadata of each object: which write made it. An answer that got lost is told from somebody else's object.
_WRITE = "koan-write"
#: More at a time hardly speeds an upload up, and each is a part in memory.
_WORKERS = 4
#: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
_LONGEST = timedelta(days=7)


class S3Driver(Driver):
    """A bucket, or what lies below ``location`` in it. Serves ``S3Storage`` of django-storages and its subclasses."""

    capabilities: frozenset[Capability] = frozenset(Capability)
    #: Larger objects are copied in parts; S3 copies 5 GiB in one request.
    copy_limit: ClassVar[int] = 5 * 1024**3

    def __init__(self, storage: Storage) -> None:
        self._storage: Any = storage
        self._made: tuple[int, Any] = (0, None)

    @classmethod
    def check(cls, alias: str, options: Mapping[str, Any], *, deploy: bool = False) -> Iterable[CheckMessage]:
        return (s3checks.check_deployment if deploy else s3checks.check)(alias, options)

    @classmethod
    def store(cls, options: Mapping[str, Any]) -> str:
        names = ("endpoint_url", "bucket_name", "location")
        return repr([str(s3checks.option(options, name) or "").strip("/") for name in names])

    @property
    def client(self) -> Any:
        """The boto3 client, shared by the threads of this process. A fork has one of its own."""
        owner, client = self._made
        if owner != os.getpid():
            client = _connect(self._storage)
            self._made = (os.getpid(), client)
        return client

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        name: str = self._storage.bucket_name
        return name

    @property
    def place(self) -> str:
        return f"s3://{self.account[0]}/{self.bucket}/{self._prefix}"

    @property
    def account(self) -> tuple[str, ...]:
        """Endpoint and identity: two drivers of one account can copy between their buckets."""
        backend = self._storage
        return (backend.endpoint_url or "aws", backend.access_key or "", backend.session_profile or "")

    @property
    def part_size(self) -> int:
        """How much is sent at once, in bytes: ``multipart_chunksize`` of the backend's ``transfer_config``."""
        size: int = self._storage.transfer_config.multipart_chunksize
        return size

    def put(self, key: str, stream: Readable, *, overwrite: bool = False, content_type: str = "") -> ObjectStat:
        target = self._target(key)
        if not overwrite:
            self._refuse_taken(key)
        reader = HashingReader(stream)
        parts = pieces(reader, self.part_size)
        first, second = next(parts, b""), next(parts, None)
        token = uuid.uuid4().hex
        parameters = self._parameters(target["Key"], token, content_type)
        with self._created(key, token, overwrite=overwrite) as condition:
            if second is None:
                self._put_whole(key, first, {**target, **parameters, **condition}, reader.sha256)
            else:
                self._put_parts(key, chain((first, second), parts), parameters, condition)
        return ObjectStat(key=key, size=reader.size, sha256=reader.sha256, content_type=content_type)

    def open(self, key: str) -> BinaryIO:
        raw, _size = self._remote(key, self._get(key))
        return io.BufferedReader(raw, BLOCK)

    def open_range(self, key: str, start: int, end: int | None = None) -> StoredRange:
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"{start}-{end} is no range: it begins at 0 or later and does not end before it begins")
        answer = self._get(key, start, end)
        content_range = answer.get("ContentRange", "")
        if not content_range:
            answer["Body"].close()
            raise lacks(self, Capability.RANGE)
        total = int(content_range.rpartition("/")[2])
        raw, size = self._remote(key, answer, start)
        return StoredRange(raw, start, start + size - 1, total)

    def stat(self, key: str) -> ObjectStat:
        head = self._head(key)
        return ObjectStat(
            key=key,
            size=head["ContentLength"],
            modified_at=head["LastModified"].astimezone(UTC),
            sha256=self._kept_sha256(head),
            content_type=head.get("ContentType", ""),
        )

    def exists(self, key: str) -> bool:
        try:
            self._head(key)
        except ObjectNotFoundError:
            return False
        return True

    def delete(self, key: str) -> bool:
        """Remove the object. The store does not tell whether there was one, so it is asked before."""
        if not self.exists(key):
            return False
        self._remove(key)
        return True

    def copy_within(self, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        return self.copy_from(self, source, target, overwrite=overwrite)

    def copy_from(self, origin: Driver, source: str, target: str, *, overwrite: bool = False) -> ObjectStat:
        """Copy inside the store, also between its buckets; media type, metadata and cache headers come along."""
        if not isinstance(origin, S3Driver) or origin.account != self.account:
            raise lacks(self, Capability.SERVER_COPY)
        self._target(target)  # a wrong key is told before anything is asked
        head = origin._head(source)
        if not overwrite:
            self._refuse_taken(target)
        token, size = uuid.uuid4().hex, head["ContentLength"]
        parameters = self._parameters(target, token, "")
        parameters |= {name: head[name] for name in _KEPT if head.get(name)}
        parameters["Metadata"] = {**head.get("Metadata", {}), **parameters["Metadata"]}
        with self._created(target, token, overwrite=overwrite) as condition:
            if size <= self.copy_limit:
                self._copy_whole(origin, source, target, {**parameters, **condition})
            else:
                self._copy_parts(origin, source, target, head, parameters, condition)
        return ObjectStat(key=target, size=size, content_type=head.get("ContentType", ""))

    def checksum(self, key: str) -> str:
        """Return what the store computed itself and keeps; read the object where it did not, as with parts."""
        found = self._kept_sha256(self._head(key))
        if found:
            return found
        with self.open(key) as stream:
            return sha256_of(stream)

    def list(self, prefix: str = "", *, after: str = "", cursor: str = "", limit: int = 1000) -> Page:
        """Return a page; more than 1000 are never on one. Objects whose key we would refuse are left out."""
        target = {"Bucket": self.bucket, "Prefix": self._prefix + prefix, "MaxKeys": min(limit, 1000)}
        if cursor:
            target["ContinuationToken"] = cursor
        elif after:
            target["StartAfter"] = self._prefix + after
        with translated(prefix):
            answer = self.client.list_objects_v2(**target)
        found = [
            ObjectStat(key=entry["Key"].removeprefix(self._prefix), size=entry["Size"], modified_at=_utc(entry))
            for entry in answer.get("Contents", ())
        ]
        shown = tuple(one for one in found if not keys.problem(one.key))
        return Page(shown, answer.get("NextContinuationToken"))

    def sweep(self, age: timedelta, prefix: str = "") -> int:
        """Abort the multipart uploads below ``prefix`` that no part has been added to for ``age``."""
        before, aborted = datetime.now(UTC) - age, 0
        for upload in self._unfinished(prefix):
            target = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            if upload["Initiated"] < before and self._last_part(target) < before:
                with translated(upload["Key"]), contextlib.suppress(self.client.exceptions.NoSuchUpload):
                    self.client.abort_multipart_upload(**target)
                aborted += 1
        return aborted

    def probe(self) -> None:
        """Ask for the bucket. Whether an object could be stored is what ``koan_storage_doctor`` tries."""
        try:
            with translated(self.bucket):
                self.client.head_bucket(Bucket=self.bucket)
        except ObjectNotFoundError as error:
            fix = "Create it, or correct bucket_name in the OPTIONS of the alias of STORAGES."
            raise StorageRefusedError(f"there is no bucket {self.bucket!r}", fix=fix) from error

    def url(self, key: str) -> str:
        backend = self._storage
        if backend.custom_domain or not backend.querystring_auth:
            return str(backend.url(key))
        return self.presign_get(key, timedelta(seconds=backend.querystring_expire))

    def presign_get(self, key: str, expires: timedelta, *, disposition: str = "", content_type: str = "") -> str:
        given = {"ResponseContentDisposition": disposition, "ResponseContentType": content_type}
        return self._signed("get_object", key, expires, {name: value for name, value in given.items() if value})

    def presign_put(
        self, key: str, expires: timedelta, *, content_type: str = "", size: int | None = None, sha256: str = ""
    ) -> PresignedUpload:
        """The signature covers all of it, and that there is no object yet where the store can tell."""
        headers: dict[str, str] = {}
        parameters: dict[str, Any] = {}
        if content_type:
            headers["Content-Type"] = parameters["ContentType"] = content_type
        if size is not None:
            parameters["ContentLength"] = size  # the client sends this header by itself
        if sha256:
            headers["x-amz-checksum-sha256"] = parameters["ChecksumSHA256"] = _base64(sha256)
        if Capability.EXCLUSIVE_CREATE in self.capabilities:
            headers["If-None-Match"] = parameters["IfNoneMatch"] = "*"
        return PresignedUpload("PUT", self._signed("put_object", key, expires, parameters), headers=headers)

    def presign_post(
        self, key: str, expires: timedelta, *, content_type: str = "", max_size: int | None = None
    ) -> PresignedUpload:
        target, seconds = self._target(key), _seconds(expires)
        fields = {"Content-Type": content_type} if content_type else {}
        conditions: list[Any] = [dict([pair]) for pair in fields.items()]
        if max_size is not None:
            conditions.append(["content-length-range", 0, max_size])
        with translated(key):
            made = self.client.generate_presigned_post(
                target["Bucket"], target["Key"], Fields=fields, Conditions=conditions, ExpiresIn=seconds
            )
        return PresignedUpload("POST", made["url"], fields=made["fields"])

    def verifies(self, key: str) -> bool:
        """Whether the store refuses what does not have the SHA-256 that was sent along. ``key`` must not be in use."""
        wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
        try:
            self.client.put_object(**self._target(key), Body=b"koan", ChecksumSHA256=wrong)
        except ClientError as error:
            return status_of(error) == 400
        self._remove(key)
        return False

    # -- addresses and parameters --------------------------------------------------------------------------------

    @property
    def _prefix(self) -> str:
        location = str(self._storage.location).strip("/")
        return f"{location}/" if location else ""

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._prefix + keys.check(key)}

    def _parameters(self, name: str, token: str, content_type: str) -> dict[str, Any]:
        """Return what the backend gives its objects, with the media type and the mark of this write."""
        found: dict[str, Any] = dict(self._storage.get_object_parameters(name))
        if self._storage.default_acl:
            found.setdefault("ACL", self._storage.default_acl)
        if content_type:
            found["ContentType"] = content_type
        found["Metadata"] = {**found.get("Metadata", {}), _WRITE: token}
        return found

    def _shared(self, key: str) -> dict[str, Any]:
        found = self._storage.get_object_parameters(self._prefix + key)
        return {name: found[name] for name in _SHARED if name in found}

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _created(self, key: str, token: str, *, overwrite: bool) -> Iterator[dict[str, str]]:
        """Yield the condition of a write. An answer that got lost or came twice does not decide who won."""
        is_conditional = not overwrite and Capability.EXCLUSIVE_CREATE in self.capabilities
        try:
            yield {"IfNoneMatch": "*"} if is_conditional else {}
        except (ObjectExistsError, ObjectNotFoundError):  # the upload that was completed is not found a second time
            if not self._is_ours(key, token):
                raise
        except StorageUnavailableError as error:
            if not overwrite and not isinstance(error.__cause__, EndpointConnectionError | ConnectTimeoutError):
                self._take_back(key, token)
            raise

    def _refuse_taken(self, key: str) -> None:
        """Where the store itself cannot refuse: between this question and the write somebody may be faster."""
        if Capability.EXCLUSIVE_CREATE not in self.capabilities and self.exists(key):
            raise taken(key)

    def _is_ours(self, key: str, token: str) -> bool:
        try:
            found: dict[str, str] = self._head(key).get("Metadata", {})
        except ObjectNotFoundError:
            return False
        return {name.lower(): value for name, value in found.items()}.get(_WRITE) == token

    def _take_back(self, key: str, token: str) -> None:
        """Remove what the store may have taken although the answer did not arrive."""
        with contextlib.suppress(Exception):
            if self._is_ours(key, token):
                self._remove(key)

    def _put_whole(self, key: str, body: bytes, parameters: Mapping[str, Any], sha256: str) -> None:
        checksum = {"ChecksumSHA256": _base64(sha256)}
        with translated(key):
            self.client.put_object(
                Body=body, **parameters, **(checksum if Capability.CHECKSUM in self.capabilities else {})
            )

    def _put_parts(
        self, key: str, parts: Iterable[bytes], parameters: Mapping[str, Any], condition: Mapping[str, str]
    ) -> None:
        with Upload(self.client, key, self._target(key), parameters) as upload:
            jobs = (partial(upload.send, body=body, **self._shared(key)) for body in parts)
            upload.complete(gather(jobs, self._workers), **condition)

    def _copy_whole(self, origin: S3Driver, source: str, target: str, parameters: Mapping[str, Any]) -> None:
        if Capability.CHECKSUM in self.capabilities:
            parameters = {**parameters, "ChecksumAlgorithm": "SHA256"}
        with _copying(target):
            self.client.copy_object(
                **self._target(target), CopySource=origin._target(source), MetadataDirective="REPLACE", **parameters
            )

    def _copy_parts(
        self,
        origin: S3Driver,
        source: str,
        target: str,
        head: Mapping[str, Any],
        parameters: Mapping[str, Any],
        condition: Mapping[str, str],
    ) -> None:
        named = {"CopySource": origin._target(source), "CopySourceIfMatch": head["ETag"]}
        size = max(self.part_size, 64 * 1024**2) if self.copy_limit >= 1024**3 else self.part_size
        with _copying(target), Upload(self.client, target, self._target(target), parameters) as upload:
            jobs = (
                partial(upload.copy, source=named, start=start, end=end)
                for start, end in ranges(head["ContentLength"], size)
            )
            upload.complete(gather(jobs, self._workers), **condition)

    @property
    def _workers(self) -> int:
        config = self._storage.transfer_config
        return min(_WORKERS, config.max_request_concurrency) if config.use_threads else 1

    def _remove(self, key: str) -> None:
        with translated(key):
            self.client.delete_object(**self._target(key))

    # -- reading ---------------------------------------------------------------------------------------------------

    def _head(self, key: str) -> dict[str, Any]:
        mode = {"ChecksumMode": "ENABLED"} if Capability.CHECKSUM in self.capabilities else {}
        with translated(key):
            found: dict[str, Any] = self.client.head_object(**self._target(key), **self._shared(key), **mode)
        return found

    def _get(self, key: str, start: int | None = None, end: int | None = None, *, etag: str = "") -> dict[str, Any]:
        """Ask for the object or some of it, in one request; raises ``RangeError`` with the size."""
        asked = self._target(key) | self._shared(key)
        if start is not None:
            asked["Range"] = f"bytes={start}-{'' if end is None else end}"
        if etag:
            asked["IfMatch"] = etag
        try:
            with translated(key, changed):
                found: dict[str, Any] = self.client.get_object(**asked)
        except StorageRefusedError as error:
            if isinstance(error.__cause__, ClientError) and status_of(error.__cause__) == 416:
                raise self._behind(key, start or 0, error.__cause__) from error
            raise
        return found

    def _behind(self, key: str, start: int, error: ClientError) -> RangeError:
        told = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("content-range", "").rpartition("/")[2]
        size = int(told) if told.isdigit() else self.stat(key).size
        return RangeError(f"{key!r} has no byte {start}", why=f"it is {size} bytes long", size=size)

    def _remote(self, key: str, answer: Mapping[str, Any], start: int = 0) -> tuple[RemoteBytes, int]:
        """Return the bytes of ``answer`` and their number; more is asked for only of the same object."""
        size, etag = answer["ContentLength"], answer["ETag"]

        def fetch(at: int) -> Body:
            return _Body(key, self._get(key, start + at, start + size - 1, etag=etag)["Body"])

        return RemoteBytes(_Body(key, answer["Body"]), size, fetch), size

    def _kept_sha256(self, head: Mapping[str, Any]) -> str:
        """Return the SHA-256 of the whole object, if the store keeps it: that of parts is a hash of hashes."""
        kept = head.get("ChecksumSHA256", "")
        if not kept or "-" in kept or head.get("ChecksumType", "") == "COMPOSITE":
            return ""
        return base64.b64decode(kept).hex()

    # -- unfinished uploads ----------------------------------------------------------------------------------------

    def _unfinished(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_multipart_uploads")
        with translated(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._prefix + prefix):
                yield from page.get("Uploads", ())

    def _last_part(self, target: Mapping[str, str]) -> datetime:
        pages = self.client.get_paginator("list_parts")
        with translated(target["Key"]):
            times = [_utc(part) for page in pages.paginate(**target) for part in page.get("Parts", ())]
        return max(times, default=datetime.min.replace(tzinfo=UTC))

    # -- signatures ------------------------------------------------------------------------------------------------

    def _signed(self, operation: str, key: str, expires: timedelta, parameters: Mapping[str, Any]) -> str:
        target, seconds = self._target(key), _seconds(expires)
        with translated(key):
            made: str = self.client.generate_presigned_url(
                operation, Params={**target, **parameters}, ExpiresIn=seconds
            )
        return made


class _Body:
    """What an answer brings, with storage's errors."""

    def __init__(self, key: str, stream: Any) -> None:
        self._key = key
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        with translated(self._key):
            data: bytes = self._stream.read(size)
        return data

    def close(self) -> None:
        self._stream.close()


def _connect(storage: Any) -> Any:
    """Return a client of the backend's own making: of a copy, which shares no connection with another process."""
    own = copy.copy(storage)
    config = _CLIENT.merge(storage.client_config)
    if config.signature_version is None:  # the old way of signing addresses is refused by most
        config = config.merge(Config(signature_version="s3v4"))
    own.client_config = config
    return own.connection.meta.client


@contextlib.contextmanager
def _copying(key: str) -> Iterator[None]:
    """A store that refuses to copy may still let us read and write."""
    try:
        with translated(key):
            yield
    except StorageRefusedError as error:
        raise CapabilityError(f"the store does not copy to {key!r}", why=error.why, fix=error.fix) from error


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _utc(entry: Mapping[str, Any]) -> datetime:
    found: datetime = entry["LastModified"]
    return found.astimezone(UTC)


def _seconds(expires: timedelta) -> int:
    if not timedelta(seconds=1) <= expires <= _LONGEST:
        raise ValueError(f"an address lives between a second and seven days, not {expires}")
    return int(expires.total_seconds())
