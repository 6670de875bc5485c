"""Celery's ``filesystem://`` transport with messages that appear in one piece.

The transport of kombu opens a file under its final name and then writes it. A worker that looks in between reads an
empty message, and ends by an error that it cannot recover from. Here a file gets its final name once it is written.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

ADDRESS = "koan_django.celery.folders:Transport"


def use() -> None:
    """Let ``filesystem://`` mean the transport of this module, in this process."""
    TRANSPORT_ALIASES["filesystem"] = ADDRESS


class Channel(filesystem.Channel):
    """Puts a message by a rename, which readers see as a whole or not at all."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # as the parent has it
        folder = Path(self.data_folder_out)
        final = folder / f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        unfinished = final.with_name(f"{final.name}.part")  # readers look for names that end in the queue's
        try:
            unfinished.write_text(dumps(payload))
            os.replace(unfinished, final)
        except OSError as error:
            raise ChannelError(f"the message cannot be written to {folder}: {error}") from error


class Transport(filesystem.Transport):
    """The transport of kombu, with our channel."""

    Channel = Channel
