"""Writes that an answer which got lost does not put in doubt.

Each write leaves its mark in the metadata of its object. Where the store says that there is one already, or says
nothing, the mark tells whether it is ours: then an earlier attempt of the same request had done it.
"""

from __future__ import annotations

import base64
import uuid
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

from koan_django.storage.drivers.base import Capability
from koan_django.storage.exceptions import ObjectExistsError, StorageError, StorageUnavailableError

from .multipart import Upload, gather
from .refusals import taken, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .bucket import Bucket

_MARK = "koan-write"
#: Of these errors the store knows nothing: no request has reached it.
_UNSENT = (ConnectTimeoutError, EndpointConnectionError)


class Write:
    """One write to one key, in any of its forms."""

    def __init__(
        self, bucket: Bucket, key: str, capabilities: frozenset[Capability], *, overwrite: bool, **parameters: Any
    ) -> None:
        """Begin with what the backend gives to its objects and ``parameters``; raises ``ObjectExistsError``.

        It does so where the store cannot refuse by itself: between this question and the write somebody may be faster.
        """
        self.bucket = bucket
        self.key = key
        self.target = bucket.target(key)
        self._has_checksum = Capability.CHECKSUM in capabilities
        self._condition: dict[str, str] = {}
        if not overwrite and Capability.EXCLUSIVE_CREATE in capabilities:
            self._condition = {"IfNoneMatch": "*"}
        elif not overwrite and self._exists():
            raise taken(key)
        self._mark = uuid.uuid4().hex
        merged = {**bucket.given(key), **parameters}
        own = {**bucket.given(key).get("Metadata", {}), **parameters.get("Metadata", {}), _MARK: self._mark}
        self.parameters: dict[str, Any] = {**merged, "Metadata": own}

    def send(self, body: bytes, sha256: str) -> None:
        """Send an object of one part."""
        checksum = {"ChecksumSHA256": encoded(sha256)} if self._has_checksum else {}
        with self._settled(), translated(self.key):
            self.bucket.client.put_object(Body=body, **self.target, **self.parameters, **self._condition, **checksum)

    def send_parts(self, parts: Iterable[bytes]) -> None:
        """Send an object in parts."""
        with self._settled(), self._upload() as upload:
            shared = self.bucket.shared(self.key)
            jobs = (partial(upload.send, body=body, **shared) for body in parts)
            upload.complete(gather(jobs, self.bucket.workers), **self._condition)

    def copy(self, source: Mapping[str, str]) -> None:
        """Have the store copy the object ``source``."""
        checksum = {"ChecksumAlgorithm": "SHA256"} if self._has_checksum else {}
        with self._settled(), translated(self.key):
            self.bucket.client.copy_object(
                **self.target,
                CopySource=source,
                MetadataDirective="REPLACE",
                **self.parameters,
                **self._condition,
                **checksum,
            )

    def copy_parts(self, source: Mapping[str, str], etag: str, ranges: Iterable[tuple[int, int]]) -> None:
        """Have the store copy the object ``source`` by its ``ranges``."""
        named = {"CopySource": source, "CopySourceIfMatch": etag}
        with self._settled(), self._upload() as upload:
            jobs = (partial(upload.copy, source=named, start=start, end=end) for start, end in ranges)
            upload.complete(gather(jobs, self.bucket.workers), **self._condition)

    def _upload(self) -> Upload:
        return Upload(self.bucket.client, self.key, self.target, self.parameters)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        try:
            yield
        except (ObjectExistsError, StorageUnavailableError) as error:
            if isinstance(error.__cause__, _UNSENT) or not self._is_done():
                raise

    def _is_done(self) -> bool:
        try:
            metadata = self.bucket.head(self.key).get("Metadata", {})
        except StorageError:
            return False
        return {name.lower(): value for name, value in metadata.items()}.get(_MARK) == self._mark

    def _exists(self) -> bool:
        try:
            self.bucket.head(self.key)
        except FileNotFoundError:
            return False
        return True


def encoded(sha256: str) -> str:
    """Return a SHA-256 as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
