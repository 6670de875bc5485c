"""What is said about a measurement follows from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import main, measured
from benchmarks.harness import Case, Outcome, Side, measure


def case(ours: list[float], peer: list[float], unit: str = "ms", goal: float = 2) -> Case:
    """A case whose sides give these, the first for warmth."""

    @contextmanager
    def sides() -> Iterator[tuple[Side, Side]]:
        one, other = iter(ours), iter(peer)
        yield lambda: next(one), lambda: next(other)

    return Case(name="work/peer", peer_name="peer 1.0", unit=unit, goal=goal, sides=sides, note="How.", rounds=3)


def outcome(ours: float, peer: float, unit: str = "ms", goal: float = 2) -> Outcome:
    return measure(case([0, ours], [0, peer], unit, goal), rounds=1)


def test_both_take_turns_after_one_that_does_not_count() -> None:
    turns: list[str] = []

    @contextmanager
    def sides() -> Iterator[tuple[Side, Side]]:
        turns.append("prepare")
        yield lambda: turns.append("ours") or 1.0, lambda: turns.append("peer") or 1.0
        turns.append("clean")

    found = measure(Case(name="a", peer_name="p", unit="ms", goal=1, sides=sides, note="", rounds=2))
    assert turns == ["prepare", *["ours", "peer"] * 3, "clean"]
    assert len(found.ours) == len(found.peer) == 2


def test_who_is_cold_each_time_has_no_turn_for_warmth() -> None:
    found = measure(replace(case([1, 2], [3, 4]), warm=False), rounds=2)
    assert [turn.value for turn in found.ours] == [1, 2]
    assert [turn.value for turn in found.peer] == [3, 4]


def test_a_case_that_fails_costs_the_others_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert measured("area", case([0], [0])) is None, "there is no second turn"
    assert "StopIteration" in capsys.readouterr().err
    assert measured("area", case([0, 1], [0, 4]), rounds=1) is not None


@pytest.mark.parametrize(
    ("unit", "ours", "peer", "ratio"), [("ms", 2, 6, 3), ("us", 6, 2, 1 / 3), ("MB/s", 6, 2, 3), ("msg/s", 2, 6, 1 / 3)]
)
def test_the_ratio_is_how_many_times_better_ours_is(unit: str, ours: float, peer: float, ratio: float) -> None:
    assert outcome(ours, peer, unit).ratio == pytest.approx(ratio)


def test_the_medians_count_and_a_goal_is_reached_by_equalling_it() -> None:
    found = measure(case([0, 1, 2, 100], [0, 4, 1, 90]))
    assert found.ratio == 2
    assert found.reached
    assert not outcome(2, 3.9).reached


def test_the_table_names_what_was_missed() -> None:
    lines = report.table("area", [outcome(2, 3.9), outcome(1, 50)]).splitlines()
    assert lines[0].split()[:6] == ["case", "ours", "peer", "unit", "ratio", "goal"]
    assert lines[1].startswith("area:work/peer")
    assert lines[1].endswith("MISSED")
    assert "MISSED" not in lines[2]


def test_without_a_goal_nothing_is_missed() -> None:
    told = outcome(9, 1, goal=0)
    assert told.reached
    row = report.table("area", [told]).splitlines()[1].split()
    assert row[:5] == ["area:work/peer", "9", "1", "ms", "0.11"]
    assert "MISSED" not in row
    assert "0" not in row


def test_the_medians_are_kept_raw_and_every_turn_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    report.keep("area", [measure(case([0, 1, 2, 100], [0, 4, 1, 90]))], ["0.1 0.2", "0.3 0.4"])
    assert json.loads((tmp_path / "results" / "area.json").read_text()) == [
        {"area": "area", "case": "work/peer", "ours": 2, "peer": 4, "peer_name": "peer 1.0", "unit": "ms", "goal": 2}
    ]
    text = (tmp_path / "results" / "area.txt").read_text()
    for said in ("load before and after: 0.1 0.2, 0.3 0.4", "ours  1 2 100", "peer  4 1 90", "How."):
        assert said in text


def test_an_unknown_area_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mesaging"])
    assert "invalid choice" in capsys.readouterr().err


def test_the_committed_results_are_what_they_should_be() -> None:
    kept = sorted(Path(report.__file__).with_name("results").glob("*.json"))
    assert kept
    for path in kept:
        for record in json.loads(path.read_text()):
            assert list(record) == ["area", "case", "ours", "peer", "peer_name", "unit", "goal"]
            assert record["area"] == path.stem
