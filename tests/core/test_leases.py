"""Leases: one owner at a time, a token that rises with every take, and nothing written under a lost one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.models import F

from koan_django.core.context import tenant
from koan_django.core.exceptions import LeaseLostError
from koan_django.core.leases import Held, acquire
from koan_django.core.models import Lease
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LONG, SHORT = timedelta(minutes=1), timedelta(milliseconds=300)
#: Short enough to outlast, long enough for a heartbeat on a busy machine.
BEATEN = timedelta(seconds=1)


@pytest.fixture
def lease() -> Lease:
    return Lease.objects.create(name="one")


def hold(lease: Lease, ttl: timedelta = LONG) -> Held:
    held = Lease.objects.hold(lease.pk, ttl)
    assert held is not None
    return held


def on_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` on so many threads at once, each with its own connection; return the results."""
    together, results, failures = threading.Barrier(count), [], []

    def run(number: int) -> None:
        try:
            together.wait(30)
            results.append(work(number))
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return results


class TestHold:
    def test_a_second_owner_waits_until_the_first_gives_back(self, lease: Lease) -> None:
        first = hold(lease)
        assert Lease.objects.hold(lease.pk, LONG) is None
        first.check()
        first.release()
        second = hold(lease)
        assert second.token > first.token
        assert second.owner != first.owner

    def test_what_does_not_exist_cannot_be_held(self) -> None:
        assert Lease.objects.hold(4711, LONG) is None

    def test_the_queryset_decides_what_may_be_held(self, lease: Lease) -> None:
        assert Lease.objects.filter(name="other").hold(lease.pk, LONG) is None

    def test_a_lease_ends_by_itself(self, lease: Lease) -> None:
        first = hold(lease, SHORT)
        second = wait_until(lambda: Lease.objects.hold(lease.pk, LONG), what="the end of the lease")
        assert second.token == first.token + 1

    def test_of_many_who_ask_at_once_one_gets_it(self, lease: Lease) -> None:
        for _ in range(5):
            held = [each for each in on_threads(6, lambda _: Lease.objects.hold(lease.pk, LONG)) if each is not None]
            assert len(held) == 1
            held[0].release()

    def test_holders_exclude_each_other_and_their_tokens_rise(self, lease: Lease) -> None:
        inside, tokens, overlaps = threading.Lock(), [], []

        def work(number: int) -> None:
            for _ in range(5):
                held = wait_until(lambda: Lease.objects.hold(lease.pk, LONG), 30, "a turn", every=0.002)
                if not inside.acquire(blocking=False):
                    overlaps.append(number)
                    return
                tokens.append(held.token)
                inside.release()
                held.release()

        on_threads(4, work)
        assert overlaps == []
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 20


class TestLost:
    @pytest.fixture
    def owners(self, lease: Lease) -> tuple[Held, Held]:
        """One that slept too long, and one that took over."""
        first = hold(lease, SHORT)
        return first, wait_until(lambda: Lease.objects.hold(lease.pk, LONG), what="the end of the lease")

    def test_it_refuses_every_write(self, owners: tuple[Held, Held]) -> None:
        lost, holder = owners
        assert lost.rows().update(name="stolen") == 0
        assert holder.rows().update(name="mine") == 1
        for refused in (lost.renew, lost.check, lambda: lost.renew(name="stolen")):
            with pytest.raises(LeaseLostError, match=r"is lost: it was not renewed within 0\.3 s"):
                refused()
        assert Lease.objects.get().name == "mine"

    def test_giving_it_back_does_not_take_it_from_the_new_holder(self, owners: tuple[Held, Held]) -> None:
        lost, holder = owners
        lost.release()
        holder.check()
        assert Lease.objects.hold(holder.pk, LONG) is None

    def test_a_lease_past_its_end_is_lost_though_nobody_took_over(self, lease: Lease) -> None:
        held = hold(lease, SHORT)
        wait_until(lambda: Lease.objects.free().exists(), what="the end of the lease")
        with pytest.raises(LeaseLostError):
            held.renew()
        assert held.rows().update(name="late") == 0


class TestKeep:
    def test_a_heartbeat_holds_on_while_the_work_takes_longer(self, lease: Lease) -> None:
        held = hold(lease, BEATEN)
        end = time.monotonic() + 2.5 * BEATEN.total_seconds()
        with held.keep() as heartbeat:
            while time.monotonic() < end:
                assert Lease.objects.hold(lease.pk, LONG) is None
                time.sleep(0.01)
            held.check()
            assert not heartbeat.lost
        assert not heartbeat.is_alive()

    def test_it_notices_that_the_lease_was_taken(self, lease: Lease) -> None:
        held = hold(lease, BEATEN)
        with held.keep() as heartbeat:
            Lease.objects.update(lease_token=F("lease_token") + 1)
            wait_until(lambda: heartbeat.lost, what="the loss")
        with pytest.raises(LeaseLostError):
            held.check()

    def test_work_that_hangs_does_not_hold_the_row_for_ever(self, lease: Lease) -> None:
        held = hold(lease, SHORT)
        with held.keep(limit=timedelta(milliseconds=400)):
            assert wait_until(lambda: Lease.objects.hold(lease.pk, LONG), what="the limit")

    def test_it_writes_what_it_is_given_with_each_renewal(self, lease: Lease) -> None:
        counted = iter(range(1000))
        with hold(lease, BEATEN).keep(values=lambda: {"name": f"beat {next(counted)} {tenant.current()}"}):
            wait_until(lambda: Lease.objects.get().name == "beat 1 None", what="two beats")

    def test_it_runs_in_the_context_of_its_owner(self, lease: Lease) -> None:
        with tenant.use("acme"), hold(lease, BEATEN).keep(values=lambda: {"name": str(tenant.current())}):
            wait_until(lambda: Lease.objects.get().name == "acme", what="a beat")

    def test_it_ends_when_the_work_fails(self, lease: Lease) -> None:
        with pytest.raises(ZeroDivisionError), hold(lease, SHORT).keep() as heartbeat:
            1 / 0  # noqa: B018
        assert not heartbeat.is_alive()


class TestNamed:
    def test_a_name_is_held_by_one_at_a_time(self) -> None:
        first = acquire("beat", LONG)
        assert first is not None
        assert acquire("beat", LONG) is None
        assert acquire("other", LONG) is not None
        first.release()
        assert acquire("beat", LONG) is not None

    def test_a_name_that_is_new_to_all_goes_to_one(self) -> None:
        for round_ in range(3):
            found = on_threads(6, lambda _, name=f"new-{round_}": acquire(name, LONG))
            assert len([held for held in found if held is not None]) == 1
        assert Lease.objects.count() == 3
