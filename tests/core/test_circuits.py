"""The circuit by itself: what may follow what, at any time, in any order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from koan_django.core import circuits
from koan_django.core.circuits import BreakerPolicy, Circuit, Permit


@st.composite
def policies(draw: st.DrawFn) -> BreakerPolicy:
    first = draw(st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)))
    return BreakerPolicy(
        failures=draw(st.integers(1, 4)),
        window=draw(st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1))),
        open_for=first,
        factor=draw(st.floats(1, 10)),
        max_open=first + draw(st.timedeltas(timedelta(0), timedelta(hours=5))),
        probes=draw(st.integers(1, 3)),
        probe_for=draw(st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1))),
    )


@given(policies(), st.integers(1, 10_000))
def test_pauses_grow_up_to_their_limit(policy: BreakerPolicy, opening: int) -> None:
    limit = policy.max_open.total_seconds()
    assert policy.open_for.total_seconds() <= policy.pause(opening) <= policy.pause(opening + 1) <= limit
    assert policy.pause(1) == policy.open_for.total_seconds()


class Life(RuleBasedStateMachine):
    """Calls of many processes, each with the permit it began with, against the plain words of the documentation."""

    @initialize(policy=policies())
    def begin(self, policy: BreakerPolicy) -> None:
        self.policy, self.now, self.circuit = policy, 1.8e9, Circuit()
        self.calls: list[Permit] = []
        self.recent: list[float] = []  # failures that count: since the circuit closed, of calls begun since then
        self.opened_in_a_row = 0

    def become(self, after: Circuit) -> None:
        if after.state != self.circuit.state:
            assert after.generation == self.circuit.generation + 1
            assert after.changed_at == self.now
            self.recent = []
        self.circuit = after

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit.state == "open" and not self.circuit.forced)
    @rule()
    def the_pause_ends(self) -> None:
        self.now = max(self.now, self.circuit.until)

    @rule()
    def a_call_asks(self) -> None:
        before = self.circuit
        if before.state == "closed":
            self.calls.append(Permit(before.generation))
            return
        after = circuits.probed(before, self.policy, self.now)
        assert (after == before) == circuits.refuses(before, self.policy, self.now)
        if after == before:
            return
        assert not before.forced
        assert before.state == "half-open" or self.now >= before.until
        self.become(after)
        self.calls.append(Permit(after.generation, after.probes[-1]))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_call_fails(self, data: st.DataObject) -> None:
        permit, before = self.pick(data), self.circuit
        after = circuits.failed(before, self.policy, self.now, permit, "down")
        if permit.generation != before.generation:
            assert after == before  # it began before the last change
            return
        if before.state == "closed":
            window = self.policy.window.total_seconds()
            self.recent = [*(at for at in self.recent if self.now - at < window), self.now]
            assert (after.state == "open") == (len(self.recent) >= self.policy.failures)
        else:
            assert after.state == "open"
        if after.state == "open":
            self.opened_in_a_row += 1
            assert after.openings == self.opened_in_a_row
            assert after.until == self.now + self.policy.pause(self.opened_in_a_row)
        self.become(after)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_call_succeeds(self, data: st.DataObject) -> None:
        permit, before = self.pick(data), self.circuit
        after = circuits.succeeded(before, self.now, permit)
        counts = permit.place is not None and permit.generation == before.generation and before.state == "half-open"
        assert (after != before) == counts
        if counts:
            assert (after.state, after.openings, after.failures) == ("closed", 0, ())
            self.opened_in_a_row = 0
        self.become(after)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def a_call_tells_nothing(self, data: st.DataObject) -> None:
        before = self.circuit
        self.become(circuits.given_up(before, self.pick(data)))
        assert self.circuit.state == before.state

    @rule()
    def somebody_trips_it(self) -> None:
        self.become(circuits.tripped(self.circuit, self.now, "by hand"))
        assert circuits.refuses(self.circuit, self.policy, self.now + 1e9)

    @rule()
    def somebody_resets_it(self) -> None:
        self.become(circuits.reset(self.circuit, self.now))
        self.recent, self.opened_in_a_row = [], 0
        assert not circuits.refuses(self.circuit, self.policy, self.now)

    @invariant()
    def no_more_probes_are_under_way_than_allowed(self) -> None:
        places = [place for place in self.circuit.probes if place > self.now]
        assert len(places) <= self.policy.probes
        assert self.circuit.state == "half-open" or not self.circuit.probes

    @invariant()
    def it_never_stays_shut_by_itself(self) -> None:
        if not self.circuit.forced:
            late = self.now + self.policy.max_open.total_seconds() + self.policy.probe_for.total_seconds()
            assert not circuits.refuses(self.circuit, self.policy, late)

    @invariant()
    def little_is_remembered(self) -> None:
        assert len(self.circuit.failures) < self.policy.failures

    def pick(self, data: st.DataObject) -> Permit:
        return self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=30)


@pytest.mark.parametrize(
    "arguments",
    [
        {"failures": 0},
        {"probes": 0},
        {"window": timedelta(0)},
        {"open_for": timedelta(0)},
        {"probe_for": timedelta(0)},
        {"max_open": timedelta(seconds=1)},
        {"factor": 0.5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BreakerPolicy(**arguments)


def test_a_clock_that_is_set_back_holds_no_circuit_open() -> None:
    policy, day = BreakerPolicy(failures=2, open_for=timedelta(seconds=5)), 86_400.0
    circuit = Circuit()
    for _ in range(2):
        circuit = circuits.failed(circuit, policy, day, Permit(circuit.generation), "down")
    assert circuits.refuses(circuit, policy, day)
    assert not circuits.refuses(circuit, policy, 0.0)
    probing = circuits.probed(circuit, policy, circuit.until)
    assert circuits.refuses(probing, policy, circuit.until)
    assert not circuits.refuses(probing, policy, 0.0)
    counted = circuits.failed(Circuit(), policy, day, Permit(0), "down")
    assert circuits.failed(counted, policy, 0.0, Permit(0), "down").state == "closed"  # a failure of tomorrow is none
