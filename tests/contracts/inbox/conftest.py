"""The stores that the contract is asked of: rows beside the work, rows in another database, Redis and memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

from koan_django.inbox.models import InboxEntry
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Store
from koan_django.messaging.buses import registry
from koan_django.testing import override_koan
from tests.contracts.inbox.inboxes import redis_inbox
from tests.contracts.stores.stores import redis_cache

KINDS = ["database", "elsewhere", pytest.param("redis", marks=pytest.mark.services("redis")), "memory"]


@pytest.fixture(params=KINDS)
def kind(request: Any, db: None, tmp_path: Path) -> Iterator[str]:
    """Each store in turn, and a bus that has nothing to settle in the handler's transaction."""
    with override_koan(MESSAGING={"BUSES": {"main": {"URL": "memory://"}}}):
        if request.param == "elsewhere":
            with _another_database(tmp_path / "inbox.sqlite3"):
                yield "elsewhere"
        elif request.param == "redis":
            cache = redis_cache(request.getfixturevalue("redis").url)
            prefix = f"koan-test-{uuid.uuid4().hex[:8]}"
            with override_settings(CACHES=cache), override_koan(INBOX=redis_inbox(prefix)):
                yield "redis"
        else:
            with override_koan(INBOX={"STORE": request.param}):
                yield request.param
        registry.reset()


@pytest.fixture
def store(kind: str) -> Store:
    return configured()


class Elsewhere:
    """A router that keeps the entries of the inbox in a database of their own."""

    def db_for_write(self, model: type, **hints: Any) -> str | None:
        return "inbox" if model is InboxEntry else None

    db_for_read = db_for_write


@contextmanager
def _another_database(path: Path) -> Iterator[None]:
    options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"}
    known: dict[str, Any] = connections.databases
    known["inbox"] = {"ENGINE": "tests.contracts.inbox.sqlite", "NAME": str(path), "OPTIONS": options}
    connections.configure_settings(known)
    try:
        with connections["inbox"].schema_editor() as editor:
            editor.create_model(InboxEntry)
        with override_settings(DATABASE_ROUTERS=["tests.contracts.inbox.conftest.Elsewhere"]):
            yield
    finally:
        connections["inbox"].close()
        del connections["inbox"], known["inbox"]


@contextmanager
def working(kind: str) -> Iterator[None]:
    """The transaction of the work, where the store takes part in it."""
    if kind == "database":
        with transaction.atomic():
            yield
    else:
        yield
