"""The database store: who may do a piece of work, and when it counts as done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.exceptions import LeaseLostError
from koan_django.inbox.exceptions import InboxBusyError
from koan_django.inbox.models import InboxEntry
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Begun, CommittingStore, Store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
LONG = timedelta(seconds=60)


def scope(key: str = "k", **parts: str) -> Scope:
    return Scope(**{"tenant": "", "bus": "main", "group": "g", "handler": "h", "alias": "a", "key": key, **parts})


@pytest.fixture
def store() -> CommittingStore:
    return rows()


def rows() -> CommittingStore:
    return cast("CommittingStore", configured())


class Rollback(Exception):
    pass


class Claiming(threading.Thread):
    """Claims in a transaction of its own thread, and holds it until it is told how to end."""

    def __init__(self, *keys: str) -> None:
        super().__init__(daemon=True)
        self.keys = keys
        self.claimed, self.end = threading.Event(), threading.Event()
        self.commit = True
        self.fresh: list[bool] = []

    def run(self) -> None:
        try:
            with transaction.atomic():
                self.fresh = rows().claim([scope(key) for key in self.keys])
                self.claimed.set()
                self.end.wait(20)
                if not self.commit:
                    raise Rollback
        except Rollback:
            pass
        finally:
            connections.close_all()

    def finish(self, *, commit: bool) -> None:
        self.commit = commit
        self.end.set()
        self.join(20)


@pytest.mark.parametrize(("commit", "expected"), [(True, [False]), (False, [True])])
def test_a_second_claim_waits_for_the_first_and_then_knows(commit: bool, expected: list[bool]) -> None:
    first, second = Claiming("k"), Claiming("k")
    first.start()
    assert first.claimed.wait(10)
    assert first.fresh == [True]
    second.start()
    assert not second.claimed.wait(0.5)  # it waits: nobody knows yet how the first one ends
    first.finish(commit=commit)
    assert second.claimed.wait(10)
    second.finish(commit=True)
    assert second.fresh == expected
    assert InboxEntry.objects.get().duplicates == (1 if commit else 0)


def test_claims_of_other_work_do_not_wait() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    first, second = Claiming("a"), Claiming("b")
    for each in (first, second):
        each.start()
        assert each.claimed.wait(10)
        assert each.fresh == [True]
    for each in (first, second):
        each.finish(commit=True)


def test_a_claim_of_one_is_one_statement(store: CommittingStore) -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        assert store.claim([scope()]) == [True]
    words = [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert [word for word in words if word != "BEGIN"] == ["INSERT"]


def test_a_claim_of_many_says_for_each_whether_it_is_new_in_the_same_few_queries(store: CommittingStore) -> None:
    with transaction.atomic():
        assert store.claim([scope("a"), scope("b")]) == [True, True]
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        fresh = store.claim([scope("b"), scope("c"), scope("c"), scope("d"), scope("a")])
    assert fresh == [False, True, False, True, False]
    # Insert; look at what was there; count the duplicates. MySQL has to be asked which are mine.
    asked = 0 if connection.features.can_return_rows_from_bulk_insert else 1
    assert len([each for each in queries if "SAVEPOINT" not in each["sql"]]) == 3 + asked
    assert dict(InboxEntry.objects.values_list("key", "duplicates")) == {"a": 1, "b": 1, "c": 1, "d": 0}


def test_many_are_written_in_one_order_however_they_came_so_that_two_workers_do_not_wait_for_each_other(
    store: CommittingStore,
) -> None:
    with transaction.atomic():
        store.claim([scope(str(number)) for number in range(50)])
    store.begin([scope(f"lease {number}") for number in range(50)], LONG)
    written = list(InboxEntry.objects.order_by("pk").values_list("fingerprint", flat=True))
    assert written == sorted(written[:50]) + sorted(written[50:])


def test_what_was_there_is_locked_in_one_order_too(store: CommittingStore) -> None:
    many = [scope(str(number)) for number in range(20)]
    with transaction.atomic():
        store.claim(many)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        store.claim([*many[::-1], *many[:3]])
    look, *counts = [each["sql"] for each in queries if each["sql"].startswith(("SELECT", "UPDATE"))]
    assert "ORDER BY 1 ASC" in look  # the fingerprint
    assert "FOR UPDATE" in look or connection.vendor == "sqlite"
    assert len(counts) == 2  # those that came once more, and those that came twice


@contextmanager
def forgotten_after_the_insert(key: str) -> Iterator[None]:
    """Delete the row of ``key`` between a store's INSERT and what follows, as its retention may."""

    def forget(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith("INSERT"):
            InboxEntry.objects.filter(key=key).delete()
        return result

    with connection.execute_wrapper(forget):
        yield


def test_work_that_is_forgotten_while_it_is_claimed_again_is_looked_at_once_more(store: CommittingStore) -> None:
    given_up = begin(store).lease
    assert given_up is not None
    store.release([given_up])
    for scopes in ([scope()], [scope("new"), scope()]):
        with pytest.raises(InboxBusyError), transaction.atomic(), forgotten_after_the_insert("k"):
            store.claim(scopes)
    with forgotten_after_the_insert("k"):
        assert [each.status for each in store.begin([scope("new"), scope()], LONG)] == ["acquired", "busy"]
    assert begin(store).status == "acquired"


def test_a_lease_whose_insert_had_to_wait_is_as_long_as_any_other(store: Store) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    first = Claiming("k")
    first.start()
    assert first.claimed.wait(10)
    threading.Timer(2, first.finish, kwargs={"commit": False}).start()
    began = time.monotonic()
    begun = store.begin([scope("k"), scope("free")], timedelta(seconds=3))
    assert time.monotonic() - began > 1
    time.sleep(1.5)
    store.renew([each.lease for each in begun if each.lease is not None])
    assert [each.status for each in store.begin([scope("k"), scope("free")], LONG)] == ["busy", "busy"]


def test_what_is_named_twice_is_begun_once(store: Store) -> None:
    assert [each.status for each in store.begin([scope(), scope()], LONG)] == ["acquired", "busy"]


def test_leases_of_many_are_renewed_ended_and_given_back_together(store: Store) -> None:
    again = begin(store).lease
    assert again is not None
    store.release([again])
    leases = [each.lease for each in store.begin([scope(), scope("a"), scope("b")], LONG) if each.lease is not None]
    assert sorted(lease.token for lease in leases) == [1, 1, 2]
    for use in (store.renew, store.release, store.finish):
        with CaptureQueriesContext(connection) as queries:
            use(leases)
        assert len([each for each in queries if each["sql"].startswith("UPDATE")]) == 2  # one for each token
    assert not InboxEntry.objects.unfinished().exists()


def test_a_claim_that_is_rolled_back_was_never_made(store: CommittingStore) -> None:
    with pytest.raises(Rollback), transaction.atomic():
        store.claim([scope()])
        raise Rollback
    with transaction.atomic():
        assert store.claim([scope()]) == [True]


def begin(store: Store, ttl: timedelta = LONG) -> Begun:
    return store.begin([scope()], ttl)[0]


def test_work_that_is_new_is_begun_by_one_write(store: Store) -> None:
    with CaptureQueriesContext(connection) as queries:
        begun = store.begin([scope("a"), scope("b")], LONG)
    words = [query["sql"].split()[0] for query in queries]
    assert [word for word in words if word in ("INSERT", "SELECT", "UPDATE")] == ["INSERT", "SELECT"]
    leases = [each.lease for each in begun if each.lease is not None]
    assert len(leases) == 2
    store.renew(leases)
    again, new = store.begin([scope("b"), scope("c")], LONG)
    assert (again.status, new.status) == ("busy", "acquired")
    store.finish(leases)
    assert set(InboxEntry.objects.values_list("key", "state", "attempts")) == {
        ("a", "processed", 1),
        ("b", "processed", 1),
        ("c", "processing", 1),
    }


def test_rows_tell_attempts_and_duplicates(store: Store) -> None:
    first = begin(store).lease
    assert first is not None
    store.release([first])
    second = begin(store).lease
    assert second is not None
    store.finish([second])
    assert begin(store).status == "processed"
    entry = InboxEntry.objects.get()
    assert (entry.state, entry.attempts, entry.duplicates, entry.lease_until) == ("processed", 2, 1, None)
    figures = store.figures()
    assert (figures.processed, figures.processing, figures.duplicates) == (1, 0, {"h": 1})


def test_work_that_was_begun_under_a_lease_and_given_up_is_not_taken_for_done(store: CommittingStore) -> None:
    """The handler was not atomic when the message first came, and is now."""
    begun = begin(store)
    with pytest.raises(InboxBusyError), transaction.atomic():
        store.claim([scope("other"), scope()])
    assert begun.lease is not None
    store.release([begun.lease])
    with pytest.raises(Rollback), transaction.atomic():
        assert store.claim([scope("other"), scope()]) == [True, True]
        raise Rollback
    with transaction.atomic():
        assert store.claim([scope("other"), scope(), scope()]) == [True, True, False]
    assert begin(store).status == "processed"
    with pytest.raises(LeaseLostError):
        store.finish([begun.lease])


parts = st.text(st.characters(), max_size=6)
scopes = st.builds(Scope, parts, parts, parts, parts, parts, parts)


@given(scopes, scopes)
def test_different_work_has_different_fingerprints(one: Scope, other: Scope) -> None:
    assert (one == other) is (one.fingerprint == other.fingerprint)


def test_parts_of_a_scope_do_not_run_into_each_other() -> None:
    assert scope(tenant="a", bus="b").fingerprint != scope(tenant="ab", bus="").fingerprint
    assert scope(tenant="a").fingerprint != scope().fingerprint


@pytest.mark.parametrize("key", ["x" * 5000, "a\x00b", "\udcff", ""])
def test_every_key_can_be_claimed(store: CommittingStore, key: str) -> None:
    with transaction.atomic():
        assert store.claim([scope(key)]) == [True]
    with transaction.atomic():
        assert store.claim([scope(key)]) == [False]
    assert len(InboxEntry.objects.get().key) <= 255


def test_two_rows_for_one_piece_of_work_are_impossible() -> None:
    columns: dict[str, Any] = {"fingerprint": "x", "handler": "h", "key": "k", "state": "processed", "claim": ""}
    InboxEntry.objects.create(**columns)
    with pytest.raises(IntegrityError), transaction.atomic():
        InboxEntry.objects.create(**columns)


def test_a_lease_is_measured_by_the_clock_of_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.utils import timezone

    right: Callable[[], Any] = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() + timedelta(hours=3))
    assert [begin(store).status, begin(store).status] == ["acquired", "busy"]
    assert InboxEntry.objects.filter(lease_until__lt=Now() + timedelta(minutes=5)).exists()
