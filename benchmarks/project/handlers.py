"""Our side of a worker."""

from koan_django.messaging import handler

from .marks import mark
from .messages import Empty


@handler(Empty, group="bench", name="bench.empty")
def empty(message: Empty) -> None:
    mark(message.number)
