"""No id of a check is lost: one whose check is gone stands under "Retired", so that nobody uses it again."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Every id that a release or main has ever had, one a line. Lines are added and never removed.
KNOWN = (Path(__file__).parent / "check_ids.txt").read_text().split()

sys.path.append(str(ROOT / "docs" / "_ext"))

from inventory import checks  # noqa: E402


def test_every_id_that_was_ever_given_is_in_use_or_retired() -> None:
    page = (ROOT / "docs/reference/checks.md").read_text()
    retired = page.partition("\n## Retired\n")[2]
    used = {entry.name for entry in checks()}
    assert [name for name in KNOWN if name not in used and f"`{name}`" not in retired] == []


def test_a_retired_id_is_not_used_again() -> None:
    retired = (ROOT / "docs/reference/checks.md").read_text().partition("\n## Retired\n")[2]
    assert [entry.name for entry in checks() if f"`{entry.name}`" in retired] == []


def test_the_list_holds_each_once() -> None:
    assert len(KNOWN) == len(set(KNOWN)) > 50
