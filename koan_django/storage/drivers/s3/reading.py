"""Reading objects: one request for what is read, and more only of the same object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from koan_django.storage.exceptions import RangeError, StorageRefusedError

from .refusals import changed, status_of, translated
from .remote import RemoteBytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .bucket import Bucket
    from .remote import Body


def get(bucket: Bucket, key: str, start: int | None = None, end: int | None = None, *, etag: str = "") -> Any:
    """Ask for the object or some of it; raises ``RangeError`` with the size, and for another object than ``etag``."""
    asked = bucket.target(key) | bucket.shared(key)
    if start is not None:
        asked["Range"] = f"bytes={start}-{'' if end is None else end}"
    if etag:
        asked["IfMatch"] = etag
    try:
        with translated(key, changed):
            return bucket.client.get_object(**asked)
    except StorageRefusedError as error:
        if isinstance(error.__cause__, ClientError) and status_of(error.__cause__) == 416:
            raise _behind(bucket, key, start or 0, error.__cause__) from error
        raise


def remote(bucket: Bucket, key: str, answer: Mapping[str, Any], start: int = 0) -> tuple[RemoteBytes, int]:
    """Return the bytes of ``answer``, which begin at ``start`` of the object, and their number."""
    size, etag = answer["ContentLength"], answer["ETag"]

    def fetch(at: int) -> Body:
        return _Body(key, get(bucket, key, start + at, start + size - 1, etag=etag)["Body"])

    return RemoteBytes(_Body(key, answer["Body"]), size, fetch), size


def _behind(bucket: Bucket, key: str, start: int, error: ClientError) -> RangeError:
    told = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("content-range", "").rpartition("/")[2]
    size = int(told) if told.isdigit() else bucket.head(key)["ContentLength"]
    return RangeError(f"{key!r} has no byte {start}", why=f"it is {size} bytes long", size=size)


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
