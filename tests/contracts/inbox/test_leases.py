"""What every store does with long work: who may do it, and when it counts as done."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections

from koan_django.core.exceptions import LeaseLostError
from koan_django.core.heartbeats import beating
from koan_django.inbox.scopes import Scope
from koan_django.inbox.stores import configured
from koan_django.inbox.stores.base import Lease, Store
from koan_django.testing import frozen_clock
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]
LONG, OVER = timedelta(seconds=60), timedelta(0)


def scope(key: str = "k", **parts: str) -> Scope:
    return Scope(**{"tenant": "", "bus": "main", "group": "g", "handler": "h", "alias": "a", "key": key, **parts})


def statuses(store: Store, *scopes: Scope, ttl: timedelta = LONG) -> list[str]:
    return [each.status for each in store.begin(scopes, ttl)]


def take(store: Store, *keys: str, ttl: timedelta = LONG) -> list[Lease]:
    leases = [each.lease for each in store.begin([scope(key) for key in keys], ttl)]
    return [lease for lease in leases if lease is not None]


def test_long_work_is_taken_by_one_and_done_once(store: Store) -> None:
    (lease,) = take(store, "k")
    assert statuses(store, scope()) == ["busy"]
    store.finish([lease])
    assert statuses(store, scope()) == ["processed"]
    assert statuses(store, scope()) == ["processed"]
    assert store.figures().duplicates == {"h": 2}


def test_what_is_known_of_work_is_told_and_telling_changes_nothing(store: Store) -> None:
    assert store.look(scope()).status == "unknown"
    (lease,) = take(store, "k")
    for _ in range(2):
        seen = store.look(scope())
        assert (seen.status, seen.token, seen.held) == ("processing", lease.token, True)
    store.release([lease])
    seen = store.look(scope())
    assert (seen.status, seen.token, seen.held) == ("processing", lease.token, False)
    (lease,) = take(store, "k")
    store.finish([lease])
    seen = store.look(scope())
    assert (seen.status, seen.held) == ("processed", False)
    assert store.figures().duplicates == {}


def test_many_are_begun_at_once_and_each_is_answered(store: Store) -> None:
    done, held = take(store, "done", "held")
    store.finish([done])
    keys = ("done", "new", "held", "newer")
    assert statuses(store, *map(scope, keys)) == ["processed", "acquired", "busy", "acquired"]
    store.finish([held])
    assert statuses(store, *map(scope, keys)) == ["processed", "busy", "processed", "busy"]
    assert store.begin([], LONG) == []


def test_many_are_given_back_and_finished_at_once(store: Store) -> None:
    store.release(take(store, "a", "b"))
    again = take(store, "a", "b")
    assert len(again) == 2
    store.finish(again)
    assert statuses(store, scope("a"), scope("b")) == ["processed", "processed"]


def test_work_that_was_given_up_is_begun_again_at_once(store: Store) -> None:
    (first,) = take(store, "k")
    store.release([first])
    (second,) = take(store, "k")
    assert second.token > first.token
    store.release([first])  # by now it is another's
    assert statuses(store, scope()) == ["busy"]


def test_who_was_overtaken_cannot_mark_hold_or_give_back_the_work(store: Store) -> None:
    (first,) = take(store, "k", ttl=OVER)
    (second,) = take(store, "k")
    assert second.token > first.token
    with pytest.raises(LeaseLostError, match="taken over by another worker"):
        store.finish([first])
    with pytest.raises(LeaseLostError, match="taken over by another worker"):
        store.renew([first])
    store.release([first])
    assert statuses(store, scope()) == ["busy"]
    store.renew([second])
    store.finish([second])
    for verb in (store.finish, store.renew):
        with pytest.raises(LeaseLostError):
            verb([second])


def test_a_foreign_token_marks_nothing(store: Store) -> None:
    (mine,) = take(store, "k")
    foreign = Lease(mine.fingerprint, mine.token + 1, LONG)
    with pytest.raises(LeaseLostError):
        store.finish([foreign])
    store.release([foreign])
    assert statuses(store, scope()) == ["busy"]


def test_of_several_that_are_marked_one_that_was_taken_over_holds_up_no_other(store: Store) -> None:
    (lost,) = take(store, "lost", ttl=OVER)
    take(store, "lost")
    (mine,) = take(store, "mine")
    with pytest.raises(LeaseLostError):
        store.finish([lost, mine])
    assert statuses(store, scope("lost"), scope("mine")) == ["busy", "processed"]


def test_work_whose_lease_ran_out_and_that_nobody_took_is_done(store: Store) -> None:
    leases = take(store, "k", ttl=OVER)
    with pytest.raises(LeaseLostError):
        store.renew(leases)
    store.finish(leases)
    assert statuses(store, scope()) == ["processed"]


def test_a_lease_ends_and_the_work_is_free(store: Store) -> None:
    with frozen_clock() as clock:
        take(store, "k")
        clock.advance(seconds=59)
        assert statuses(store, scope()) == ["busy"]
        clock.advance(seconds=2)
        assert statuses(store, scope()) == ["acquired"]


def test_a_renewal_counts_from_now(store: Store) -> None:
    with frozen_clock() as clock:
        leases = take(store, "k", "l")
        clock.advance(seconds=50)
        store.renew(leases)
        clock.advance(seconds=50)
        assert statuses(store, scope("k"), scope("l")) == ["busy", "busy"]


def test_a_heartbeat_holds_the_lease_for_as_long_as_the_work_takes(store: Store) -> None:
    beats: list[None] = []
    with frozen_clock() as clock:
        leases = take(store, "k", ttl=timedelta(seconds=0.9))
        with beating(lambda: beats.append(store.renew(leases)), leases[0].ttl, None) as heartbeat:
            for _ in range(2):
                before = len(beats)
                clock.advance(seconds=0.6)
                wait_until(lambda: len(beats) > before + 1, 30, "a beat that began after it")  # noqa: B023
                assert statuses(store, scope()) == ["busy"]
            assert not heartbeat.lost
        store.finish(leases)


@pytest.mark.usefixtures("kind")
def test_many_who_begin_at_once_are_told_apart() -> None:
    found: list[str] = []
    start = threading.Barrier(6)

    def begin() -> None:
        try:
            start.wait(30)
            found.extend(statuses(configured(), scope()))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == ["acquired"] + ["busy"] * 5


def test_duplicates_are_counted_by_handler(store: Store) -> None:
    here, there = scope(handler="here"), scope(handler="there")
    store.finish([each.lease for each in store.begin([here, there], LONG) if each.lease is not None])
    statuses(store, here, there)
    store.count_duplicates([there, there])
    assert store.figures().duplicates == {"here": 1, "there": 3}


@pytest.mark.parametrize("key", ["x" * 5000, "a\x00b", "\udcff", ""])
def test_every_handler_and_key_can_be_begun(store: Store, key: str) -> None:
    odd = scope(key, handler=key)
    store.finish([each.lease for each in store.begin([odd], LONG) if each.lease is not None])
    assert statuses(store, odd) == ["processed"]
    assert sum(store.figures().duplicates.values()) == 1


def test_the_clock_of_the_asking_process_does_not_matter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (lease,) = take(store, "k")
    for skew in (-1e7, 1e7):
        monkeypatch.setattr("time.time", lambda: 1.8e9 + skew)  # noqa: B023
        assert statuses(store, scope()) == ["busy"]
        store.renew([lease])


def test_the_probe_is_content_with_a_store_that_answers(store: Store) -> None:
    store.probe()
    assert list(store.objections()) == []
