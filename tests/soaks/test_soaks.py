"""What a soak promises before it meets a machine: the same faults for the same seed, and a verdict that can be bad."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.services.fixtures import StartProcess
from tests.services.postgres import Postgres
from tests.services.rabbitmq import RabbitMQ
from tests.soaks import __main__, crew, faults
from tests.soaks.faults import Fault, inject
from tests.soaks.ledger import OPENING, Transfer, tally
from tests.soaks.messaging import Balance
from tests.soaks.outbox import arrivals
from tests.soaks.tenants import Latencies

GOOD = Balance(sent=Counter(database=2), uncertain=1, handled=2, lost=[], twice=[], unsent=[], dead=0, suppressed=3)

#: Two transfers from the first account to the second.
DEBITED: list[Transfer] = [(1, 2, 30, 1), (1, 2, 5, 2)]


def injected(seed: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The faults of a run with what each was left to chance, without the pauses between them."""
    clock = iter(range(1000))
    monkeypatch.setattr(faults.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(faults.time, "sleep", lambda seconds: None)
    found: list[tuple[str, float]] = []
    known = [
        Fault(name, lambda chance, name=name: found.append((name, chance.random())), weight)
        for name, weight in (("often", 3), ("seldom", 1))
    ]
    done = inject(known, seed, 40, lambda name: None)
    assert done == Counter(name for name, _ in found)
    return found


def test_a_seed_repeats_its_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    first = injected(7, monkeypatch)
    assert first == injected(7, monkeypatch)
    assert first != injected(8, monkeypatch)
    assert {name for name, _ in first} == {"often", "seldom"}


def test_the_sums_hold_when_nothing_is_missing() -> None:
    assert GOOD.holds
    assert str(GOOD).endswith("3 duplicates suppressed: the sums hold")


@pytest.mark.parametrize("wrong", [{"lost": [1]}, {"twice": [1]}, {"unsent": [9]}, {"dead": 1}, {"handled": 0}])
def test_they_do_not_when_anything_is_wrong(wrong: dict[str, Any]) -> None:
    balance = replace(GOOD, **wrong)
    assert not balance.holds
    assert str(balance).endswith("the sums DO NOT HOLD")


@pytest.mark.parametrize(
    ("arrived", "holds"),
    [([0, 1, 2], True), ([0, 1, 0, 1, 2], True), ([0, 2], False), ([0, 2, 1], False), ([0, 2, 1, 2], False)],
    ids=["once", "again", "missing", "swapped", "late"],
)
def test_the_first_copies_of_a_key_must_be_there_in_order(arrived: list[int], holds: bool) -> None:
    found = arrivals({"key": arrived}, keys=1, count=3)
    assert found.holds is holds
    assert str(found).endswith("the order holds" if holds else "the order DOES NOT HOLD")


def test_what_was_not_sent_is_no_order_that_holds() -> None:
    found = arrivals({"key": [0, 1]}, keys=1, count=2, trouble="the sender ended too early: x; ")
    assert not found.holds
    assert str(found).startswith("the sender ended too early: x; 2 messages")


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_the_last_line_names_the_seed_and_the_exit_code_follows(
    holds: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__main__.AREAS, "messaging", lambda seconds, seed: (holds, f"words {seed}"))
    assert __main__.main(["messaging", "--seconds", "3", "--seed", "7"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == "soak messaging, seed 7, 3 s: words 7"


@pytest.mark.parametrize(
    ("beside", "left", "holds"),
    [(0.19, 1, True), (0.21, 1, False), (0.19, 0, False)],
    ids=["met", "slow", "alone"],
)
def test_a_tenant_that_waits_twice_as_long_or_beside_no_backlog_is_a_finding(
    beside: float, left: int, holds: bool
) -> None:
    found = Latencies(alone=[0.01] * 98 + [0.1] * 2, beside=[0.01] * 98 + [beside] * 2, left=left)
    assert found.holds is holds
    assert str(found).endswith("met" if holds else "NOT MET")


def test_a_process_that_ended_by_itself_is_a_finding() -> None:
    class Ended:
        name, returncode, running, output = "worker", 1, False, "Traceback"

        def tail(self, lines: int) -> str:
            return self.output

    with pytest.raises(AssertionError, match="ended by itself with 1"):
        crew.gone(Ended())  # type: ignore[arg-type]
    for expected in (0, -9, -15):
        Ended.returncode = expected
        assert crew.gone(Ended())  # type: ignore[arg-type]


def test_the_ledgers_are_right_when_each_transfer_was_credited_once_in_order() -> None:
    found = tally(DEBITED, DEBITED, {1: OPENING - 35, 2: OPENING + 35}, dead=0, suppressed=1)
    assert found.holds
    assert str(found).startswith("2 transfers of 35 in all, 2 credited: 0 lost, 0 doubled")
    assert str(found).endswith("the ledgers are right")


@pytest.mark.parametrize(
    ("posted", "credit", "dead", "named"),
    [
        ([0], 30, 0, "1 lost"),
        ([0, 1, 1], 40, 0, "1 doubled"),
        ([1, 0], 35, 0, "1 accounts out of order"),
        ([0, 1], 36, 0, "1 accounts with a wrong balance"),
        ([0, 1], 35, 1, "1 dead letters"),
        ([], 0, 0, "2 lost"),
    ],
    ids=["lost", "doubled", "swapped", "unbalanced", "dead", "nothing"],
)
def test_they_are_not_when_anything_is_amiss(posted: list[int], credit: int, dead: int, named: str) -> None:
    balances = {1: OPENING - 35, 2: OPENING + credit}
    found = tally(DEBITED, [DEBITED[index] for index in posted], balances, dead=dead, suppressed=0)
    assert not found.holds
    assert named in str(found)
    assert str(found).endswith("the ledgers ARE WRONG")


def test_a_credit_that_nobody_announced_is_found() -> None:
    found = tally(DEBITED[:1], DEBITED, {1: OPENING - 35, 2: OPENING + 35}, dead=0, suppressed=0)
    assert found.unasked == DEBITED[1:]
    assert found.wrong == [1, 2]
    assert not found.holds


@pytest.mark.acceptance
def test_ledgers_are_right_after_a_few_seconds_of_faults(
    postgres: Postgres, rabbitmq: RabbitMQ, process: StartProcess
) -> None:
    environment = os.environ | postgres.exports() | rabbitmq.exports()
    command = [sys.executable, "-m", "tests.soaks", "ledger", "--seconds", "12", "--seed", "5"]
    soak = process("soak", command, env=environment, cwd=Path(__file__).parents[2])
    assert soak.wait(420) == 0, soak.tail()
    said = re.search(r"injected (\d+): .*; (\d+) transfers .* the ledgers are right", soak.output)
    assert said, soak.tail()
    assert int(said[1]) >= 5
    assert int(said[2]) >= 50
