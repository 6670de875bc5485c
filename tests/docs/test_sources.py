"""What the pages say of other people's programs, and no test of ours can show, names their word for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
#: The power goes, a replica takes over, a supervisor kills: nothing that a test here does.
_CLAIM = re.compile(r"power cut|fails over|everysec|TimeoutStopSec|terminationGracePeriod|stop_grace_period")


def paragraphs(path: Path) -> list[str]:
    """Split a page at blank lines and at the rows of tables."""
    return re.split(r"\n\s*\n|\n(?=\|)|\n(?=- )", path.read_text())


@pytest.mark.parametrize("name", ["explanation/guarantees.md", "howto/buses.md", "howto/redis.md", "howto/workers.md"])
def test_a_claim_about_somebody_elses_program_links_their_word(name: str) -> None:
    claims = [each for each in paragraphs(DOCS / name) if _CLAIM.search(each)]
    assert claims
    assert [each for each in claims if "https://" not in each] == []
