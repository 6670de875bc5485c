"""Reads what a stranger's server answers: no more than so much, and no longer than so long."""

from __future__ import annotations

import http.client
import time

#: What is asked for at once.
PIECE = 64 * 1024


def read_all(answer: http.client.HTTPResponse, *, deadline: float, most: int) -> bytes:
    """Return all of ``answer``, by ``deadline`` on the monotonic clock of the machine and at most ``most`` bytes.

    A timeout of the socket counts from each piece anew. Raises ``TimeoutError`` and ``http.client.HTTPException``.
    """
    content = bytearray()
    while piece := answer.read1(PIECE):
        content += piece
        if len(content) > most:
            raise http.client.HTTPException(f"it answered more than {most} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("it did not finish its answer in time")
    return bytes(content)
