"""What ``koan_status`` and the Overview page say of the inbox, whatever the store."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from koan_django import inbox
from koan_django.core.overview import panels
from koan_django.testing import override_koan
from tests.contracts.inbox.inboxes import redis_inbox
from tests.contracts.stores.stores import redis_cache
from tests.services.waiting import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def status(*words: str) -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("koan_status", *words, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def test_duplicates_are_told_by_source(kind: str) -> None:
    for source, times in (("stripe", 3), ("github", 2)):
        for _ in range(times):
            with inbox.claim(source, "evt-1"):
                pass
    text, code = status()
    assert code == 0
    assert "3 duplicates suppressed: stripe 2, github 1" in text
    found: dict[str, Any] = json.loads(status("--format", "json")[0])["beside"]["inbox"]
    assert found["duplicates"] == {"github": 1, "stripe": 2}
    assert found["processed"] == (None if kind == "redis" else 2)
    lines = {line.label: line.value for line in panels["koan_inbox"].lines()}
    assert lines["Duplicates suppressed"] == "3"
    assert lines.get("Store") == (kind if kind in ("redis", "memory") else None)


def test_a_store_that_is_away_is_a_trouble() -> None:
    cache = redis_cache(f"redis://127.0.0.1:{free_port()}/0")
    with override_settings(CACHES=cache), override_koan(INBOX=redis_inbox("koan-test")):
        text, code = status()
    assert code == 1
    assert "inbox  redis, unknown" in text
    assert "! the inbox cannot be asked: the store of inbox in Redis" in text
