"""Each call leaves a line in ``calls.txt``, and its effect is a row of the handler's transaction."""

import os
import signal
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group

from koan_django.core.circuits import BreakerPolicy
from koan_django.messaging import Context, handler

from . import troubles
from .messages import Fragile, LockingTrouble, LongWork, Trouble, Work


def do(message: Work | LongWork, context: Context) -> None:
    note(f"{message.number} {context.attempt} {os.getpid()}")
    if context.attempt <= message.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(message.seconds)
    Group.objects.create(name=f"{message.number} {uuid.uuid4().hex}")


def note(line: str) -> None:
    folder: Path = settings.ROOT
    with (folder / "calls.txt").open("a") as calls:
        calls.write(f"{line}\n")


@handler(Work, group="work", name="live.work")
def work(message: Work, context: Context) -> None:
    do(message, context)


@handler(LongWork, group="long", name="live.long", atomic=False)
def long_work(message: LongWork, context: Context) -> None:
    do(message, context)


#: Two failures in whichever worker are enough.
BREAKER = BreakerPolicy(failures=2, open_for=timedelta(seconds=1), max_open=timedelta(seconds=2))


@handler(Fragile, group="fragile", name="live.fragile", max_attempts=50, breaker=BREAKER)
def fragile(message: Fragile, context: Context) -> None:
    note(f"{message.number} {context.attempt} {os.getpid()}")
    if (settings.ROOT / "broken").exists():
        raise OSError("the service is away")
    Group.objects.create(name=f"{message.number} {uuid.uuid4().hex}")


def be_trouble(message: Trouble | LockingTrouble, context: Context) -> None:
    process = os.getpid()
    note(f"{message.number} {context.attempt} {process}")
    if message.does and context.attempt <= message.times:
        getattr(troubles, message.does)()
    if os.getpid() != process:
        return  # a copy: the connection is that of the other
    Group.objects.create(name=f"{message.number} {uuid.uuid4().hex}")


LIMITS: dict[str, Any] = getattr(settings, "LIMITS", {}) | {"max_attempts": 2}


@handler(Trouble, group="trouble", name="live.trouble", atomic=False, **LIMITS)
def trouble(message: Trouble, context: Context) -> None:
    be_trouble(message, context)


@handler(LockingTrouble, group="locking", name="live.locking", **LIMITS)
def locking_trouble(message: LockingTrouble, context: Context) -> None:
    be_trouble(message, context)
