"""Elections: the best candidate that is live, a reason for every other, and again until nothing better is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core import election
from koan_django.core.election import Candidate, Election, proclaim, proclaimed
from koan_django.core.facts import Alternative, Fact
from koan_django.core.models import Election as Row
from koan_django.core.models import PolicyVersion

RABBIT = Candidate("rabbit", "amqp://u:hunter22@rabbit", 100, "a variable")
SECOND = Candidate("second", "amqp://second", 100, "a variable")
ROWS = Candidate("rows", "database://", 20, "always there")


def live(*names: str) -> Callable[[str], None]:
    def probe(value: str) -> None:
        if value not in {each.value for each in (RABBIT, SECOND, ROWS) if each.name in names}:
            raise ConnectionRefusedError(f"{value} refused")

    return probe


def test_the_highest_priority_that_is_live_wins_and_every_other_keeps_its_reason() -> None:
    result = Election([ROWS, RABBIT, SECOND], live("second", "rows")).hold()
    assert result.selected == SECOND
    assert not result.is_settled
    assert result.fact("bus") == Fact(
        "bus",
        "second",
        "a variable, priority 100",
        (
            Alternative("rabbit", "ConnectionRefusedError: amqp://u:********@rabbit refused"),
            Alternative("rows", "second is live"),
        ),
    )


def test_nothing_is_asked_behind_the_one_that_is_live() -> None:
    asked: list[str] = []
    Election([ROWS, RABBIT, SECOND], asked.append).hold()
    assert asked == [RABBIT.value]


def test_nobody_live_is_a_fact_too() -> None:
    result = Election([RABBIT], live()).hold()
    assert (result.selected, result.is_settled) == (None, False)
    assert result.fact("bus").selection == "none"


def test_a_candidate_that_does_not_answer_is_not_waited_for() -> None:
    never = threading.Event()
    result = Election([RABBIT, ROWS], lambda value: never.wait() if "rabbit" in value else None, timeout=0.05).hold()
    assert result.selected == ROWS
    assert result.alternatives == (Alternative("rabbit", "no answer within 0.05 s"),)
    never.set()


def test_the_value_of_a_candidate_is_never_printed() -> None:
    assert "hunter22" not in repr(RABBIT)


def test_rounds_wait_longer_five_times_and_begin_anew_until_the_best_is_live() -> None:
    waits: list[float] = []
    up = {"rows"}

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 7:
            up.add("rabbit")

    results = list(Election([RABBIT, ROWS], lambda value: live(*up)(value)).rounds(pause))
    assert waits == [2, 4, 6, 8, 10, 2, 4]
    assert [result.selected for result in results] == [ROWS] * 7 + [RABBIT]
    assert [result.is_settled for result in results] == [False] * 7 + [True]


def test_whoever_pauses_may_end_it() -> None:
    assert len(list(Election([RABBIT, ROWS], live("rows")).rounds(lambda _: True))) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8))
def test_an_election_is_won_by_the_best_and_explains_all_others(found: list[tuple[int, bool]]) -> None:
    candidates = [Candidate(f"c{n}", n, priority, "") for n, (priority, _) in enumerate(found)]

    def probe(number: int) -> None:
        if not found[number][1]:
            raise OSError

    result = Election(candidates, probe).hold()
    alive = [each for each in candidates if found[each.value][1]]
    assert result.selected == max(alive, key=lambda each: (each.priority, -each.value), default=None)
    named = {each.name for each in result.alternatives}
    assert named == {each.name for each in candidates if each != result.selected}
    assert all(each.reason for each in result.alternatives)


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
class TestProclaimed:
    def grow_old(self) -> None:
        Row.objects.update(alive_until=timezone.now() - timedelta(seconds=1))

    def test_others_follow_and_are_told_of_a_change_only(self) -> None:
        assert proclaimed("bus") == ""
        assert proclaim("bus", ROWS, 0)
        assert proclaimed("bus") == "rows"
        before = PolicyVersion.objects.get().version
        assert proclaim("bus", ROWS, 0)
        assert PolicyVersion.objects.get().version == before
        assert proclaim("bus", RABBIT, 0)
        assert (proclaimed("bus"), PolicyVersion.objects.get().version) == ("rabbit", before + 1)
        assert PolicyVersion.objects.get().what == "election of bus: rabbit"

    def test_the_worse_gives_way_as_long_as_the_better_lives(self) -> None:
        proclaim("bus", RABBIT, 0)
        assert not proclaim("bus", SECOND, 1)
        assert not proclaim("bus", ROWS, 0)
        assert proclaimed("bus") == "rabbit"
        self.grow_old()
        assert proclaimed("bus") == "rabbit"  # nobody has said otherwise
        assert proclaim("bus", ROWS, 0)
        assert proclaimed("bus") == "rows"
        assert proclaim("bus", SECOND, 1)
        assert proclaim("bus", RABBIT, 0)

    def test_a_sign_of_life_keeps_it(self) -> None:
        proclaim("bus", RABBIT, 0)
        self.grow_old()
        proclaim("bus", RABBIT, 0)
        assert Row.objects.get().alive_until > timezone.now() + election.TTL / 2
        assert not proclaim("bus", ROWS, 0)
