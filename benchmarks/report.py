"""Shows what was measured, and keeps it."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .harness import Outcome, middle

RESULTS = Path(__file__).with_name("results")
_COLUMNS = ("case", "ours", "peer", "unit", "ratio", "goal", "by CPU", "")


def table(area: str, outcomes: list[Outcome]) -> str:
    """Return the table for the terminal."""
    rows = [_COLUMNS, *(_row(area, outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in (0, 3) else cell.rjust(width) for at, (cell, width) in enumerate(row)
        ).rstrip()
        for row in (list(zip(row, widths, strict=True)) for row in rows)
    )


def keep(area: str, outcomes: list[Outcome], loads: list[str]) -> None:
    """Write the medians as JSON, and a text beside it with every turn and the state of the machine."""
    RESULTS.mkdir(exist_ok=True)
    records = [
        {
            "area": area,
            "case": outcome.case.name,
            "ours": round(middle(outcome.ours), 6),
            "peer": round(middle(outcome.peer), 6),
            "peer_name": outcome.case.peer_name,
            "unit": outcome.case.unit,
            "goal": outcome.case.goal,
        }
        for outcome in outcomes
    ]
    (RESULTS / f"{area}.json").write_text(json.dumps(records, indent=2) + "\n")
    (RESULTS / f"{area}.txt").write_text(_text(area, outcomes, loads))


def load() -> str:
    """Return how busy the machine is: runnable processes on average over one and five minutes."""
    one, five, _ = os.getloadavg()
    return f"{one:.1f} {five:.1f}"


def _row(area: str, outcome: Outcome) -> tuple[str, ...]:
    case, cpu = outcome.case, outcome.cpu_ratio
    return (
        f"{area}:{case.name}",
        f"{middle(outcome.ours):.4g}",
        f"{middle(outcome.peer):.4g}",
        case.unit,
        f"{outcome.ratio:.2f}",
        f"{case.goal:g}" if case.goal else "",
        "" if cpu is None else f"{cpu:.2f}",
        "" if outcome.reached else "MISSED",
    )


def _text(area: str, outcomes: list[Outcome], loads: list[str]) -> str:
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}, Django {version('django')}; load before and after: {', '.join(loads)}"
    )
    return "\n\n".join([machine, table(area, outcomes), *map(_turns, outcomes)]) + "\n"


def _turns(outcome: Outcome) -> str:
    case = outcome.case
    ours, peer = (" ".join(f"{turn.value:.4g}" for turn in turns) for turns in (outcome.ours, outcome.peer))
    return f"{case.name}, against {case.peer_name}, in {case.unit}\n  {case.note}\n  ours  {ours}\n  peer  {peer}"
