"""Each call leaves a line in ``calls.txt``, and its effect is a row of the handler's transaction."""

import os
import signal
import time
import uuid
from pathlib import Path

from django.contrib.auth.models import Group

from koan_django.messaging import Context, handler

from .messages import LongWork, Work


def do(message: Work | LongWork, context: Context) -> None:
    note(f"{message.number} {context.attempt} {os.getpid()}")
    if context.attempt <= message.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(message.seconds)
    Group.objects.create(name=f"{message.number} {uuid.uuid4().hex}")


def note(line: str) -> None:
    from django.conf import settings

    folder: Path = settings.ROOT
    with (folder / "calls.txt").open("a") as calls:
        calls.write(f"{line}\n")


@handler(Work, group="work", name="live.work")
def work(message: Work, context: Context) -> None:
    do(message, context)


@handler(LongWork, group="long", name="live.long", atomic=False)
def long_work(message: LongWork, context: Context) -> None:
    do(message, context)
