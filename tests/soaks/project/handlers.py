"""The work: an effect that is committed with the message, on each bus."""

import os
import signal

from koan_django.messaging import Context, handler

from .messages import Work
from .models import Effect


@handler(Work, group="ledger", bus="database", name="soak.database")
def on_the_database(message: Work, context: Context) -> None:
    _do(message, context)


@handler(Work, group="ledger", bus="rabbitmq", name="soak.rabbitmq")
def on_rabbitmq(message: Work, context: Context) -> None:
    _do(message, context)


def _do(message: Work, context: Context) -> None:
    Effect.objects.create(number=message.number, bus=context.bus)
    if context.attempt <= message.fails:
        raise ConnectionError("a failure on purpose, after the effect")
    if context.attempt <= message.fails + message.dies:
        os.kill(os.getpid(), signal.SIGKILL)
