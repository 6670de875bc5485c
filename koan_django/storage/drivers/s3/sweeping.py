"""Multipart uploads that nobody goes on with. Their parts cost money and show in no list."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from koan_django.storage.exceptions import StorageUnavailableError

from .refusals import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .bucket import Bucket


def abort_unfinished(bucket: Bucket, prefix: str, before: datetime) -> int:
    """Abort those below ``prefix`` that were begun and last added to ``before``; return how many."""
    aborted = 0
    for upload in _unfinished(bucket, prefix):
        target = {"Bucket": bucket.name, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        if upload["Initiated"] < before:
            with contextlib.suppress(StorageUnavailableError):  # it has come to its end meanwhile
                aborted += _abort(bucket, target, before)
    return aborted


def _abort(bucket: Bucket, target: Mapping[str, str], before: datetime) -> bool:
    with translated(target["Key"]):
        if _last_part(bucket, target) >= before:
            return False
        bucket.client.abort_multipart_upload(**target)
    return True


def _unfinished(bucket: Bucket, prefix: str) -> Iterator[dict[str, Any]]:
    pages = bucket.client.get_paginator("list_multipart_uploads")
    with translated(prefix):
        for page in pages.paginate(Bucket=bucket.name, Prefix=bucket.prefix + prefix):
            yield from page.get("Uploads", ())


def _last_part(bucket: Bucket, target: Mapping[str, str]) -> datetime:
    pages = bucket.client.get_paginator("list_parts").paginate(**target)
    times = (part["LastModified"] for page in pages for part in page.get("Parts", ()))
    return max(times, default=datetime.min.replace(tzinfo=UTC))
