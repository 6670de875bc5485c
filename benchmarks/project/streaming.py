"""The FastStream app of the peer: ``python -m benchmarks.project.streaming``, one process."""

import asyncio
import os

import msgspec
from fast_depends.msgspec import MsgSpecSerializer
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from .marks import mark, tell

#: Fewer were slower, more were not faster.
PREFETCH = 256
broker = RabbitBroker(
    os.environ["BENCH_AMQP_URL"],
    logger=None,
    serializer=MsgSpecSerializer(),
    default_channel=Channel(prefetch_count=PREFETCH),
)
_queue = RabbitQueue("stream", declare=False)


class Empty(msgspec.Struct):
    """As ours."""

    number: int
    text: str


async def empty(message: Empty) -> None:
    mark(message.number)


async def hop(message: Empty) -> None:
    tell(message.number)


if __name__ == "__main__":
    broker.subscriber(_queue)(globals()[os.environ.get("BENCH_HANDLER", "empty")])
    asyncio.run(FastStream(broker, logger=None).run())
