"""Waits for what an ``async`` handler returned, and ends it when a time limit strikes.

The coroutine runs on another thread, and the exception of the limit is raised in the one that waits.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from asgiref.sync import async_to_sync
from celery.exceptions import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Awaitable

#: How long a coroutine may take to end once it was cancelled.
CANCEL_SECONDS = 5.0


def wait_for(result: Awaitable[object]) -> None:
    """Wait for ``result``. It is cancelled when the soft time limit is exceeded meanwhile."""
    coroutine = _Coroutine(result)
    try:
        async_to_sync(coroutine.run)()
    except SoftTimeLimitExceeded:
        coroutine.cancel()
        raise


class _Coroutine:
    def __init__(self, result: Awaitable[object]) -> None:
        self._result = result
        self._task: asyncio.Task[object] | None = None
        self._over = threading.Event()

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._result
        finally:
            self._over.set()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            self._over.wait(CANCEL_SECONDS)
