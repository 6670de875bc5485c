"""What every store of named leases does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import NamedLease, acquire
from koan_django.core.stores import lease_store
from tests.contracts.stores.conftest import COMMITTING
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.database, COMMITTING, pytest.mark.usefixtures("kind")]

LONG, SHORT = timedelta(minutes=1), timedelta(milliseconds=200)


def take(name: str, ttl: timedelta = LONG) -> NamedLease:
    held = acquire(name, ttl)
    assert held is not None
    return held


def successor(name: str) -> NamedLease:
    """Whoever takes over once the lease has ended."""
    return wait_until(lambda: acquire(name, LONG), what="the end of the lease", every=0.02)


def on_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run ``work`` on so many threads at once; return the results."""
    together, results = threading.Barrier(count), []

    def run() -> None:
        try:
            together.wait(30)
            results.append(work())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_name_is_held_by_one_at_a_time() -> None:
    first = take("beat")
    assert acquire("beat", LONG) is None
    take("another")
    first.check()
    first.renew()
    first.release()
    assert take("beat").token > first.token


def test_of_many_who_ask_at_once_for_a_new_name_one_gets_it() -> None:
    for round_ in range(3):
        found = on_threads(6, lambda name=f"new-{round_}": acquire(name, LONG))
        assert len(found) == 6
        assert len([each for each in found if each is not None]) == 1


def test_an_owner_who_lost_it_is_refused_and_the_new_one_is_left_alone() -> None:
    first = take("beat", SHORT)
    second = successor("beat")
    assert second.token > first.token
    for refused in (first.renew, first.check):
        with pytest.raises(LeaseLostError, match=r"the lease on beat is lost: it was not renewed within 0\.2 s"):
            refused()
    first.release()
    second.check()
    assert acquire("beat", LONG) is None


def test_past_its_end_it_is_lost_though_nobody_took_over() -> None:
    held = take("beat", SHORT)
    wait_until(lambda: not lease_store().holds("beat", held.token), what="its end", every=0.02)
    with pytest.raises(LeaseLostError):
        held.renew()
    assert not lease_store().release("beat", held.token)


def test_a_renewal_counts_from_now_and_may_be_shorter() -> None:
    held = take("beat")
    assert lease_store().renew("beat", held.token, SHORT)
    successor("beat")


def test_tokens_rise_with_every_take() -> None:
    tokens = []
    for _ in range(5):
        held = take("beat")
        tokens.append(held.token)
        held.release()
    assert tokens == sorted(set(tokens))


def test_a_heartbeat_holds_on_while_the_work_takes_longer_and_notices_a_loss() -> None:
    held = take("beat", SHORT * 3)
    end = lambda: lease_store().leases()[0].until  # noqa: E731
    began = end()
    with held.keep() as heartbeat:
        wait_until(lambda: end() not in (None, began), what="a beat")
        held.release()
        wait_until(lambda: heartbeat.lost, what="the loss")


def test_what_is_held_and_by_whom_can_be_seen() -> None:
    one, two = take("one"), take("two")
    two.release()
    seen = {each.name: (each.owner, each.token, each.until is not None) for each in lease_store().leases()}
    assert seen == {"one": (one.owner, one.token, True), "two": (two.owner, two.token, False)}


def test_the_clock_of_the_asking_process_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    held = take("beat")
    for skew in (-1e7, 1e7):
        monkeypatch.setattr("time.time", lambda: 1.8e9 + skew)  # noqa: B023
        held.check()
        assert acquire("beat", LONG) is None
