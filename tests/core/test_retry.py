"""When to try again: properties of every policy."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.retry import RetryPolicy

_FIRST = st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1))


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    first = draw(_FIRST)
    return RetryPolicy(
        max_attempts=draw(st.integers(1, 5000)),
        first_delay=first,
        factor=draw(st.floats(1, 1000)),
        max_delay=first + draw(st.timedeltas(timedelta(0), timedelta(days=30))),
        backoff=draw(st.sampled_from(["fixed", "exponential"])),
        jitter=draw(st.floats(0, 1)),
    )


@given(policies(), st.integers(2, 5000))
def test_delays_never_shrink_and_stay_within_their_bounds(policy: RetryPolicy, attempt: int) -> None:
    assert policy.first_delay <= policy.delay(attempt) <= policy.delay(attempt + 1) <= policy.max_delay


@given(policies(), st.integers(2, 5000))
def test_jitter_only_lengthens(policy: RetryPolicy, attempt: int) -> None:
    delay = policy.delay(attempt)
    assert delay <= policy.jittered(attempt) <= delay * (1 + policy.jitter) + timedelta(microseconds=1)


@given(policies())
def test_steps_are_the_distinct_delays_of_the_attempts_allowed(policy: RetryPolicy) -> None:
    steps = policy.steps()
    assert steps == sorted(set(steps))
    assert {policy.delay(attempt) for attempt in range(2, min(policy.max_attempts, 50) + 1)} <= set(steps)
    if policy.backoff == "fixed":
        assert steps == [policy.first_delay]


@given(policies())
def test_attempts_are_counted_from_one(policy: RetryPolicy) -> None:
    assert policy.allows(1)
    assert policy.allows(policy.max_attempts)
    assert not policy.allows(policy.max_attempts + 1)


def test_the_defaults_are_the_documented_buckets() -> None:
    policy = RetryPolicy()
    assert [policy.delay(attempt).total_seconds() for attempt in range(2, 8)] == [3, 6, 12, 24, 48, 60]
    assert [step.total_seconds() for step in policy.steps()] == [3, 6, 12, 24]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"max_attempts": 0}, "MAX_ATTEMPTS"),
        ({"first_delay": timedelta(0)}, "FIRST_DELAY"),
        ({"first_delay": timedelta(minutes=2)}, "FIRST_DELAY"),
        ({"factor": 0.5}, "FACTOR"),
        ({"jitter": 1.5}, "JITTER"),
        ({"jitter": -0.1}, "JITTER"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RetryPolicy(**arguments)  # type: ignore[arg-type]
