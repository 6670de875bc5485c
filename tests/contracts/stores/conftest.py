"""The stores that the contract is asked of: rows (of SQLite, then of PostgreSQL), and Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from koan_django.testing import override_koan
from tests.contracts.stores.stores import redis_cache, redis_stores

#: Tests that commit. Only the tables of core are emptied behind each: flushing those of all apps takes longer.
COMMITTING = pytest.mark.django_db(transaction=True, available_apps=["koan_django.core"])


@pytest.fixture(params=["rows", pytest.param("redis", marks=pytest.mark.services("redis"))])
def kind(request: Any, db: None) -> Iterator[str]:
    """Every store of ``KOAN["CORE"]`` of one kind."""
    if request.param == "rows":
        yield "rows"
        return
    url = request.getfixturevalue("redis").url
    stores = redis_stores(f"koan-test-{uuid.uuid4().hex[:8]}")
    with override_settings(CACHES=redis_cache(url)), override_koan(CORE=stores):
        yield "redis"
