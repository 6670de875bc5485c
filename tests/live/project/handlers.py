"""What the live processes do. Each deed is a line in ``deeds.txt``."""

import os
import time
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.db import connection

from koan_django.messaging import handler
from koan_django.storage import ProfileRefusedError, ProfileStorage

from .messages import Store

ROOT = Path(os.environ["KOAN_LIVE_DIR"])


def note(*words: object) -> None:
    """Append one line, whole."""
    with (ROOT / "deeds.txt").open("a") as lines:
        lines.write(" ".join(map(str, words)) + "\n")


@handler(Store, group="live", name="live.store")
def store(message: Store) -> None:
    """Store a file and say how that went, and what it cost in queries of the policy."""
    asked: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        asked.extend(table for table in ("koan_core_policyversion", "koan_storage_storageprofile") if table in sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        try:
            ProfileStorage("hot").save(f"{message.number}.txt", ContentFile(b"x"))
            outcome = "stored"
        except ProfileRefusedError:
            outcome = "refused"
    versions, rows = (asked.count(table) for table in ("koan_core_policyversion", "koan_storage_storageprofile"))
    note(outcome, message.number, os.getpid(), versions, rows, time.time())
