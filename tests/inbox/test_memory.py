"""The store in memory: bounded, and forgetful in time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from koan_django.core.exceptions import StoreUnavailableError
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores.memory import MemoryOptions, MemoryStore
from koan_django.testing import frozen_clock

LONG = timedelta(seconds=60)


def scope(key: str) -> Scope:
    return Scope("", "main", "g", "h", "a", key)


def begin(store: MemoryStore, key: str) -> str:
    return store.begin([scope(key)], LONG)[0].status


def process(store: MemoryStore, *keys: str) -> None:
    begun = store.begin([scope(key) for key in keys], LONG)
    store.finish([each.lease for each in begun if each.lease is not None])


def test_beyond_its_bound_it_forgets_what_was_processed_first_and_never_what_is_being_done() -> None:
    store = MemoryStore(MemoryOptions(max_entries=3))
    assert begin(store, "held") == "acquired"
    process(store, "a", "b")
    process(store, "c")
    assert [begin(store, key) for key in ("held", "b", "c")] == ["busy", "processed", "processed"]
    assert begin(store, "a") == "acquired"
    assert store.figures().processed == 1


def test_full_of_what_is_being_done_it_refuses_more() -> None:
    store = MemoryStore(MemoryOptions(max_entries=2))
    store.begin([scope("a"), scope("b")], LONG)
    with pytest.raises(StoreUnavailableError, match="all of its 2 entries are being worked on"):
        begin(store, "c")


def test_it_forgets_after_the_retention_whatever_the_wall_clock_says() -> None:
    store = MemoryStore(MemoryOptions())
    with frozen_clock() as clock:
        process(store, "a")
        clock._at += timedelta(days=30)  # it jumps
        assert begin(store, "a") == "processed"
        clock.advance(days=6)
        process(store, "b")
        clock.advance(days=1)
        assert store.figures().processed == 1
        assert [begin(store, "a"), begin(store, "b")] == ["acquired", "processed"]
