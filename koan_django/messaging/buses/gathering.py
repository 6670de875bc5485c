"""Sends together what is awaited at the same time.

Whether a message may leave at once is a question to the thread of the caller's transaction. A hundred coroutines that
send at once ask it once, and their messages go to the broker in one piece; each gets its own receipt or error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync

from koan_django.messaging.envelope import Envelope, Receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from koan_django.messaging.exceptions import MessagingError

    SendAll: TypeAlias = Callable[[Sequence[Envelope], str | None], Awaitable[Sequence["Receipt | MessagingError"]]]


@dataclass(eq=False, slots=True)
class _Batch:
    using: str | None
    envelopes: list[Envelope] = field(default_factory=list)
    answers: list[asyncio.Future[Receipt]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Gathering:
    """Gathers the messages of one bus. ``send`` is given those that came together for one database."""

    def __init__(self, send: SendAll) -> None:
        self._send = send
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, _Batch]] = WeakKeyDictionary()

    async def join(self, envelope: Envelope, using: str | None = None) -> Receipt:
        """Send ``envelope`` along with others; return its receipt, or raise its error."""
        loop = asyncio.get_running_loop()
        batches = self._open.setdefault(loop, {})
        key = (*_thread(), envelope.tenant, using)
        batch = batches.get(key)
        if batch is None:
            batch = batches[key] = _Batch(using)
            # It comes after whatever is ready to run by now, and runs in the context of the first that joins.
            batch.task = loop.create_task(self._close(batches, key, batch))
        answer: asyncio.Future[Receipt] = loop.create_future()
        batch.envelopes.append(envelope)
        batch.answers.append(answer)
        return await answer

    async def _close(self, batches: dict[object, _Batch], key: object, batch: _Batch) -> None:
        del batches[key]
        verdicts: Sequence[Receipt | Exception]
        try:
            verdicts = await self._send(batch.envelopes, batch.using)
        except asyncio.CancelledError:
            for answer in batch.answers:
                answer.cancel()
            raise
        except Exception as error:
            verdicts = [error] * len(batch.answers)
        for answer, verdict in zip(batch.answers, verdicts, strict=True):
            if answer.done():
                continue  # its caller was cancelled
            if isinstance(verdict, Exception):
                answer.set_exception(verdict)
            else:
                answer.set_result(verdict)


def _thread() -> tuple[object, object]:
    """What decides on which thread asgiref runs synchronous code, and so in whose transaction."""
    return getattr(AsyncToSync.executors, "current", None), SyncToAsync.thread_sensitive_context.get(None)
