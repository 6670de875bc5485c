"""The reference of metrics has the labels of the code, and pages name no metric that it does not have."""

from __future__ import annotations

import re
from pathlib import Path

from koan_django.contrib.prometheus.metrics import LABELS

DOCS = Path(__file__).parents[2] / "docs"
DESCRIBED = dict(
    re.findall(r"^\| `(koan_\w+)` \| (.*?) \|", (DOCS / "reference" / "metrics.md").read_text(), re.MULTILINE)
)


def test_the_labels_of_each_event_are_described() -> None:
    found = {name.removesuffix("_seconds").removesuffix("_total"): labels for name, labels in DESCRIBED.items()}
    wanted = {
        f"koan_{event.replace('.', '_')}": ", ".join(f"`{label}`" for label in labels) or "none"
        for event, labels in LABELS.items()
    }
    assert len(wanted) > 10
    assert {name: found.get(name) for name in wanted} == wanted


def test_the_alerts_name_metrics_that_there_are() -> None:
    page = (DOCS / "explanation" / "ready-for-production.md").read_text()
    named = set(re.findall(r"`(koan_messaging_\w+)`", page))
    assert len(named) > 5
    assert named - set(DESCRIBED) == set()
