"""Multipart uploads: an object that is sent in parts and appears whole, or not at all."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from .refusals import changed, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from koan_django.storage.streams import HashingReader

logger = logging.getLogger(__name__)

#: Part sizes grow by their first one after so many parts: a store takes 10,000 of them, and 5 MiB is the least.
GROW_AFTER, LEAST = 1000, 5 * 1024 * 1024

Part = dict[str, Any]


class Upload:
    """One upload: ``with`` begins it, and aborts it unless it was completed."""

    def __init__(self, client: Any, key: str, target: Mapping[str, str], parameters: Mapping[str, Any]) -> None:
        self._client = client
        self._key = key
        self._target = dict(target)
        self._parameters = parameters

    def __enter__(self) -> Upload:
        with translated(self._key):
            begun = self._client.create_multipart_upload(**self._target, **self._parameters)
        self._target["UploadId"] = begun["UploadId"]
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None:
            return
        try:
            self._client.abort_multipart_upload(**self._target)
        except Exception:
            logger.warning("the parts sent of %r are still in the store; the sweep removes them", self._key)

    def send(self, number: int, body: bytes, **parameters: Any) -> Part:
        """Send one part."""
        with translated(self._key):
            answer = self._client.upload_part(**self._target, PartNumber=number, Body=body, **parameters)
        return _part(number, answer)

    def copy(self, number: int, source: Mapping[str, Any], start: int, end: int) -> Part:
        """Have the store copy the bytes from ``start`` to ``end``, both included, as one part."""
        with translated(self._key, changed):
            answer = self._client.upload_part_copy(
                **self._target, PartNumber=number, **source, CopySourceRange=f"bytes={start}-{end}"
            )
        return _part(number, answer["CopyPartResult"])

    def complete(self, parts: list[Part], **condition: Any) -> None:
        """Make the object of its parts; raises ``ObjectExistsError`` as ``condition`` says."""
        with translated(self._key):
            self._client.complete_multipart_upload(**self._target, MultipartUpload={"Parts": parts}, **condition)


def pieces(reader: HashingReader, size: int) -> Iterator[bytes]:
    """Iterate over what is left, in parts of ``size`` bytes and later more; the last may be shorter."""
    size, number, kept = max(size, LEAST), 0, bytearray()
    for block in reader.blocks():
        kept += block
        if len(kept) >= size * (1 + number // GROW_AFTER):
            yield bytes(kept)
            kept.clear()
            number += 1
    if kept:
        yield bytes(kept)


def ranges(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Iterate over the first and last byte of parts that make up ``total``."""
    step = max(size, LEAST, -(-total // 10_000))
    for start in range(0, total, step):
        yield start, min(start + step, total) - 1


def gather(jobs: Iterable[Callable[[int], Part]], workers: int) -> list[Part]:
    """Run jobs, each given its number from 1, ``workers`` at a time; return what they return, in their order.

    A job is taken from ``jobs`` when there is room for it, so that no more parts are in memory than on their way.
    """
    done: list[Part] = []
    running: deque[Future[Part]] = deque()
    with ThreadPoolExecutor(workers, "koan-storage") as pool:
        for number, job in enumerate(jobs, 1):
            if len(running) == workers:
                done.append(running.popleft().result())
            running.append(pool.submit(partial(job, number)))
        done.extend(each.result() for each in running)
    return done


def _part(number: int, answer: Mapping[str, Any]) -> Part:
    kept = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
    return {"PartNumber": number, "ETag": answer["ETag"], **kept}
