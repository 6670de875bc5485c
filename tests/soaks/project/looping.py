"""What the processes of a soak have in common that send until they are told to stop."""

from __future__ import annotations

import random
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class RolledBack(Exception):
    """On purpose."""


def until_stopped(act: Callable[[random.Random], None], seed: str, pause: float) -> None:
    """Call ``act`` every ``pause`` seconds until SIGTERM, whatever happens to the connections."""
    from django.db import DatabaseError, connection

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    chance = random.Random(seed)
    while not stopping.wait(pause):
        try:
            act(chance)
        except RolledBack:
            pass
        except DatabaseError as error:
            print(f"the database: {error}", flush=True)
            connection.close()
