"""Everything that has a name stands in the reference, and nothing stands there that the code does not have."""

from __future__ import annotations

import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from django.apps import apps

from koan_django.messaging import envelope

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
TARGET = re.compile(r"^\(([^()\s]+)\)=$", re.MULTILINE)
FINDING = re.compile(r"f\"messaging\.(\w+)\.\{")
VARIABLE = re.compile(r"\"(KOAN_[A-Z_]+)\"")

sys.path.append(str(ROOT / "docs" / "_ext"))

from inventory import PACKAGE, PAGES, Entry, anchor_id, collect  # noqa: E402


@cache
def entries() -> dict[str, Entry]:
    """What the code has; read when a test asks, since that takes seconds."""
    return collect()


def anchors() -> dict[str, Path]:
    """The targets of the reference, by their ids."""
    return {anchor_id(found): page for page in REFERENCE.glob("*.md") for found in TARGET.findall(page.read_text())}


@pytest.mark.parametrize("kind", PAGES)
def test_everything_with_a_name_has_an_anchor(kind: str) -> None:
    wanted = [entry for entry in entries().values() if entry.kind == kind]
    assert wanted, f"no {kind} was found in the code at all"
    missing = [entry.anchor for entry in wanted if anchor_id(entry.anchor) not in anchors()]
    lines = "\n".join(f"({anchor})=" for anchor in missing)
    assert not missing, f"docs/reference/{PAGES[kind]}.md lacks, each with a sentence below it:\n{lines}"


def test_every_environment_variable_is_described() -> None:
    described = (REFERENCE / "settings.md").read_text()
    found = {name for path in PACKAGE.glob("**/*.py") for name in VARIABLE.findall(path.read_text())}
    assert "KOAN_SECRETS" in found
    assert not {name for name in found if f"`{name}" not in described}, "docs/reference/settings.md lacks these"


def test_every_header_of_a_message_is_described() -> None:
    described = (REFERENCE / "wire.md").read_text()
    found = {value for name, value in vars(envelope).items() if name.isupper() and isinstance(value, str)}
    assert {"koan-version", "traceparent"} <= found
    assert not {value for value in found if f"`{value}`" not in described}, "docs/reference/wire.md lacks these"


def test_every_fact_of_health_that_messaging_reports_is_described() -> None:
    described = (REFERENCE / "health.md").read_text()
    found = {kind for path in PACKAGE.glob("messaging/**/*.py") for kind in FINDING.findall(path.read_text())}
    found.remove("bus")  # a choice, at /koan/facts
    assert {"consumer", "publisher"} <= found
    assert not {kind for kind in found if f"`messaging.{kind}.<" not in described}, (
        "docs/reference/health.md lacks these"
    )


def test_every_table_is_described() -> None:
    models = [model for model in apps.get_models() if model.__module__.startswith("koan_django.")]
    tables = {model._meta.db_table for model in models if model._meta.managed}
    described = set(re.findall(r"^\| `(koan_\w+)` \|", (REFERENCE / "tables.md").read_text(), re.MULTILINE))
    assert not tables - described, "docs/reference/tables.md lacks these: say what they hold, and what to do on leaving"
    assert not described - tables, "docs/reference/tables.md describes tables that are gone"


def test_no_anchor_is_left_of_what_is_gone() -> None:
    kinds = tuple(f"{kind}-" for kind in PAGES)
    gone = [f"{page.name}: {found}" for found, page in anchors().items() if found.startswith(kinds)]
    gone = [line for line in gone if line.partition(": ")[2] not in entries()]
    assert not gone, "the code does not have these any more:\n" + "\n".join(gone)


def test_no_two_decisions_have_one_number() -> None:
    numbers = Counter(path.name[:4] for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert len(numbers) > 20
    assert [number for number, count in numbers.items() if count > 1] == [], "take the next free number"


def test_no_sentence_is_missing_behind_an_anchor() -> None:
    """A target with another target right behind it, or with nothing, says nothing."""
    empty = re.compile(r"^\(([^()\s]+)\)=\n(?:\n*\(|\n*\Z|`[^`]+`\n(?!: \S))", re.MULTILINE)
    found = [(page.name, target) for page in REFERENCE.glob("*.md") for target in empty.findall(page.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "name",
    [
        "setting-messaging-buses-retry-max_attempts",
        "setting-environment",
        "check-koan_core.E001",
        "check-koan_scheduling.W001",
        "command-koan_storage_sync",
        "signal-variant_ready",
        "permission-koan_messaging.replay_deadletter",
        "event-messaging.handle",
        "event-inbox.duplicate",
    ],
)
def test_the_search_finds_what_is_known_to_be_there(name: str) -> None:
    """Or the tests above would pass by finding nothing."""
    found = entries()[anchor_id(name)]
    assert isinstance(found, Entry)
    assert found.anchor == name


def test_facts_are_read_from_the_code() -> None:
    facts = {name: entry.facts for name, entry in entries().items()}
    assert facts["setting-messaging-buses-confirm-timeout"] == "duration, default `5s`"
    assert facts["setting-storage-profiles-storage"] == "text, required"
    assert facts["event-storage-put"] == "`start`, then `stop` or `exception`; carries `profile`, `key`"
    assert "`--dry-run`: say what would change, and change nothing" in facts["command-koan-storage-sync"]
