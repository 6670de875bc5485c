"""Access to secrets in the audit: bounded in rows however often they are read, and never with a value."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import transaction

from koan_django import secrets
from koan_django.core.audit import counting
from koan_django.core.audit.counting import KEYS, REST, Ledger, flush, ledger
from koan_django.core.context import correlation
from koan_django.core.dispatch import Job
from koan_django.core.models import AuditEvent
from koan_django.testing import override_koan, static_secrets

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    ledger.after_fork()
    with static_secrets({"app/db": '{"password": "correct-horse"}', "app/key": "battery-staple"}):
        yield
    ledger.after_fork()


def test_a_thousand_reads_are_one_row_that_tells_the_count() -> None:
    for number in range(1000):
        with correlation.use(f"story-{number}"):
            secrets.get("app/db#password")
    assert not AuditEvent.objects.exists()
    flush()
    event = AuditEvent.objects.get()
    assert (event.action, event.object_type, event.object_id) == ("secrets.access", "secret", "app/db#password")
    assert event.data["accesses"] == 1000
    assert event.correlation_id == "story-0", "that of the first"
    assert "correct-horse" not in json.dumps(AuditEvent.objects.values().get(), default=str)


def test_within_the_interval_the_next_row_waits() -> None:
    secrets.get("app/key")
    flush()
    secrets.get("app/key")
    secrets.get("app/key")
    assert flush() == 0
    assert AuditEvent.objects.count() == 1
    assert flush(everything=True) == 1, "as at the end of the process"
    assert [event.data["accesses"] for event in AuditEvent.objects.order_by("id")] == [1, 2]


def test_it_is_written_when_a_request_or_a_job_has_ended() -> None:
    secrets.get("app/key")
    request_finished.send(object)
    assert AuditEvent.objects.count() == 1
    Job("tests.reads", lambda: secrets.get("app/db#password"))()
    assert AuditEvent.objects.count() == 2


def test_never_within_a_transaction_that_may_be_rolled_back() -> None:
    with transaction.atomic():
        secrets.get("app/key")
        assert flush() == 0
        transaction.set_rollback(True)
    assert flush() == 1


def test_what_cannot_be_written_is_counted_on(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    secrets.get("app/key")
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_events", lambda *_: 1 / 0)
        counting.flush_safely()
    assert "they are counted on" in caplog.text
    secrets.get("app/key")
    flush()
    assert AuditEvent.objects.get().data["accesses"] == 2


def test_it_can_be_excluded() -> None:
    with override_koan(CORE={"AUDIT": {"EXCLUDE": ["secrets.*"]}}):
        secrets.get("app/key")
        assert flush() == 0
    assert not AuditEvent.objects.exists()


def test_threads_lose_no_count() -> None:
    threads = [threading.Thread(target=lambda: [secrets.get("app/key") for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush()
    assert AuditEvent.objects.get().data["accesses"] == 2000


def test_what_nobody_reads_any_more_makes_room() -> None:
    book = Ledger()
    for number in range(KEYS):
        book.note("x.y", "thing", str(number), "")
    book.due(timedelta(0))
    assert book.due(timedelta(0)) == []
    book.note("x.y", "thing", "another", "")
    assert [key[2] for key, _count in book.due(timedelta(0))] == ["another"]


def test_a_stranger_cannot_fill_the_memory_with_names() -> None:
    book = Ledger()
    for number in range(3 * KEYS):
        book.note("x.y", "thing", str(number), "")
    taken = book.due(timedelta(0))
    assert len(taken) == KEYS + 1
    assert {key[2]: count.count for key, count in taken}[REST] == 2 * KEYS
