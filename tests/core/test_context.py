"""The context follows a piece of work through threads, asyncio and headers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.context import (
    baggage,
    bind,
    causation,
    correlation,
    new_id,
    restore,
    snapshot,
    tenant,
    traceparent,
)

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_value_is_in_force_for_its_block_alone() -> None:
    assert tenant.current() is None
    with tenant.use("acme"):
        with tenant.use("other"):
            assert tenant.current() == "other"
        assert tenant.current() == "acme"
        with tenant.use(None):
            assert tenant.current() is None
    assert tenant.current() is None


def test_it_ends_when_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), tenant.use("acme"):
        1 / 0  # noqa: B018
    assert tenant.current() is None


@pytest.mark.parametrize("value", ["", "-a", "a/b", "../a", "a b", "a\n", "ä", "a" * 64, "a;b", "a.b"])
def test_a_tenant_that_could_not_travel_safely_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a tenant"), tenant.use(value):
        pass


@pytest.mark.parametrize(
    "value", ["x", TRACE.replace("-00f", "-zzf"), "01" + TRACE[2:], TRACE.replace("4bf9", "4BF9"), TRACE + "0"]
)
def test_a_trace_that_is_not_well_formed_is_refused(value: str) -> None:
    assert traceparent.is_valid(TRACE)
    assert not traceparent.is_valid(value)
    assert not traceparent.is_valid(f"00-{'0' * 32}-{'1' * 16}-01")


@pytest.mark.parametrize(
    "value", ["plan=gold", "a=1,b=2", "a = %20x ;private;ttl=3 , b=", ",".join(f"k{n}=1" for n in range(180))]
)
def test_baggage_that_is_well_formed_travels(value: str) -> None:
    with baggage.use(value):
        assert snapshot() == {"baggage": value}


@pytest.mark.parametrize(
    "value",
    [
        *("", "plan", "=gold", "a=1,", "a=b c", "a=\u00e4", "a=1\r\nX-Evil: 1", 'a="b"'),
        *("a=" + "x" * 8191, ",".join(f"k{n}=1" for n in range(181))),
    ],
    ids=range(10),
)
def test_baggage_that_is_not_well_formed_or_too_much_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a baggage"), baggage.use(value):
        pass
    with restore({"baggage": value}):
        assert snapshot() == {}


def test_a_snapshot_restores_exactly_what_was_in_force() -> None:
    with tenant.use("acme"), correlation.use("c-1"), traceparent.use(TRACE):
        taken = snapshot()
    assert taken == {"tenant": "acme", "correlation": "c-1", "traceparent": TRACE}
    with tenant.use("other"), causation.use("m-1"):
        with restore(taken):
            assert snapshot() == taken
        assert snapshot() == {"tenant": "other", "causation": "m-1"}


_OUTSIDE = st.text() | st.none() | st.integers() | st.binary() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(["tenant", "correlation", "causation", "traceparent", "else"]), _OUTSIDE))
def test_what_comes_from_outside_is_dropped_unless_it_is_valid_and_never_raises(values: dict[str, object]) -> None:
    with restore(values):
        kept = snapshot()
    assert all(values[name] == value for name, value in kept.items())
    for each in (tenant, correlation, causation, traceparent):
        assert each.name not in kept or each.is_valid(kept[each.name])


def test_new_ids_are_distinct_and_valid() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(correlation.is_valid(each) for each in ids)


def test_a_plain_thread_starts_without_and_a_bound_function_with_the_context() -> None:
    seen: dict[str, str | None] = {}

    def look(name: str) -> None:
        seen[name] = tenant.current()

    with tenant.use("acme"):
        threads = [threading.Thread(target=look, args=("plain",)), threading.Thread(target=bind(look), args=("bound",))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"plain": None, "bound": "acme"}


def test_a_bound_function_may_run_on_many_threads_at_once() -> None:
    together = threading.Barrier(8)

    def work(name: str) -> tuple[str | None, str | None]:
        with correlation.use(name):
            together.wait()
            return tenant.current(), correlation.current()

    with tenant.use("acme"):
        bound = bind(work)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bound, [f"c{n}" for n in range(8)]))
    assert found == [("acme", f"c{n}") for n in range(8)]


def test_tasks_of_asyncio_inherit_and_do_not_disturb_each_other() -> None:
    async def work(name: str) -> tuple[str | None, str | None]:
        with correlation.use(name):
            await asyncio.sleep(0)
            return tenant.current(), correlation.current()

    async def run() -> list[tuple[str | None, str | None]]:
        with tenant.use("acme"):
            return await asyncio.gather(*(work(f"c{n}") for n in range(5)))

    assert asyncio.run(run()) == [("acme", f"c{n}") for n in range(5)]
    assert snapshot() == {}
