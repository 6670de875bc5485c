"""Our side of a worker: the handler of the case."""

import os
from typing import Any

from koan_django.messaging import handler

from .marks import mark, tell
from .messages import Empty


def empty(message: Empty) -> None:
    """Do nothing."""
    mark(message.number)


def once(message: Empty) -> None:
    """Do nothing, in the transaction that keeps the claim of the message."""
    mark(message.number)


def hop(message: Empty) -> None:
    """Tell when it begins."""
    tell(message.number)


def row(message: Empty) -> None:
    """Write a row."""
    from .models import Row

    mark(message.number)
    Row.objects.create(number=message.number)


def rows(messages: list[Empty]) -> None:
    """Write a row for each message."""
    from .models import Row

    for message in messages:
        mark(message.number)
    Row.objects.bulk_create(Row(number=message.number) for message in messages)


_name = os.environ.get("BENCH_HANDLER", "empty")
#: Those that write nothing do without a transaction.
_options: dict[str, Any] = {"once": {}, "row": {}, "rows": {"batch": 50}}.get(_name, {"atomic": False})
handler(Empty, group="bench", name="bench.empty", **_options)(globals()[_name])
