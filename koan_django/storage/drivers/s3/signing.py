"""Addresses that let others read or send an object for a while. Signing asks the store nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from koan_django.storage.drivers.base import PresignedUpload

from .refusals import translated
from .writing import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .bucket import Bucket

#: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
_LONGEST = timedelta(days=7)


def signed(bucket: Bucket, operation: str, key: str, expires: timedelta, parameters: Mapping[str, Any]) -> str:
    """Return an address for one request; raises ``ValueError`` for a life of more than seven days."""
    asked, seconds = {**bucket.target(key), **parameters}, _seconds(expires)
    with translated(key):
        made: str = bucket.client.generate_presigned_url(operation, Params=asked, ExpiresIn=seconds)
    return made


def put(
    bucket: Bucket, key: str, expires: timedelta, *, content_type: str, size: int | None, sha256: str, exclusive: bool
) -> PresignedUpload:
    """Return how an object is sent as it is announced. The signature covers all of that."""
    headers: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    if content_type:
        headers["Content-Type"] = parameters["ContentType"] = content_type
    if size is not None:
        parameters["ContentLength"] = size  # the client sends this header by itself
    if sha256:
        headers["x-amz-checksum-sha256"] = parameters["ChecksumSHA256"] = encoded(sha256)
    if exclusive:
        headers["If-None-Match"] = parameters["IfNoneMatch"] = "*"
    return PresignedUpload("PUT", signed(bucket, "put_object", key, expires, parameters), headers=headers)


def post(bucket: Bucket, key: str, expires: timedelta, *, content_type: str, max_size: int | None) -> PresignedUpload:
    """Return a form by which an object is sent."""
    target, seconds = bucket.target(key), _seconds(expires)
    fields = {"Content-Type": content_type} if content_type else {}
    conditions: list[Any] = [{name: value} for name, value in fields.items()]
    if max_size is not None:
        conditions.append(["content-length-range", 0, max_size])
    with translated(key):
        made = bucket.client.generate_presigned_post(
            target["Bucket"], target["Key"], Fields=fields, Conditions=conditions, ExpiresIn=seconds
        )
    return PresignedUpload("POST", made["url"], fields=made["fields"])


def _seconds(expires: timedelta) -> int:
    if not timedelta(seconds=1) <= expires <= _LONGEST:
        raise ValueError(f"an address lives between a second and seven days, not {expires}")
    return int(expires.total_seconds())
