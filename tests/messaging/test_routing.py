"""Keys, partitions and patterns."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.messaging.routing import binding_key, matches, partition_of, routing_key, specificity

ROOT = Path(__file__).parents[2]
WORDS = ["a", "b", "p", "p3", "paid"]


def reference(pattern: str, key: str) -> bool:
    """The rules of AMQP 0-9-1 as a regular expression over the words of a key, each followed by a dot."""
    parts = {"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}
    expression = "".join(parts.get(word, re.escape(word) + r"\.") for word in pattern.split("."))
    return re.fullmatch(expression, key + ".") is not None


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(".".join)
patterns = st.lists(st.sampled_from([*WORDS, "*", "#"]), min_size=1, max_size=5).map(".".join)


@given(patterns, words)
def test_patterns_match_as_the_broker_matches(pattern: str, key: str) -> None:
    assert matches(pattern, key) == reference(pattern, key)


@given(patterns, words, st.none() | st.integers(0, 1023))
def test_a_binding_means_what_the_pattern_says_in_every_partition(
    pattern: str, alias: str, partition: int | None
) -> None:
    """The broker compares bindings with routing keys; the memory and database buses compare patterns with aliases."""
    assert reference(binding_key(pattern), routing_key(alias, partition)) == matches(pattern, alias)


@pytest.mark.parametrize(
    ("pattern", "alias", "expected"),
    [
        ("invoice.*", "invoice.paid", True),
        ("invoice.*", "invoice", False),
        ("invoice.*", "invoice.paid.late", False),
        ("invoice.#", "invoice", True),
        ("#.paid", "paid", True),
        ("#", "a.b.c", True),
        ("#.#", "a", True),
        ("*", "a.b", False),
    ],
)
def test_what_wildcards_stand_for(pattern: str, alias: str, expected: bool) -> None:
    assert matches(pattern, alias) is expected


def test_the_more_a_pattern_says_the_more_specific_it_is() -> None:
    assert specificity("#") < specificity("*") < specificity("invoice.#") < specificity("invoice.*")
    assert specificity("invoice.*") < specificity("invoice.paid")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1024))
def test_a_partition_is_one_of_those_there_are(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_keys_spread_over_the_partitions() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[partition_of(f"customer-{number}", 16)] += 1
    assert min(counts) > 800


KEYS = ["", "acme", "42", "Grüße", "a" * 500, "漢字"]
PROGRAM = """
import runpy, sys
partition_of = runpy.run_path(sys.argv[1])["partition_of"]
print([partition_of(key, 16) for key in eval(sys.argv[2])])
"""


def interpreters() -> list[str]:
    """Every Python of this machine that starts."""
    names = {sys.executable}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        names |= {name for name in [shutil.which(f"python{version}")] if name}
        names |= set(map(str, Path.home().glob(f".pyenv/versions/{version}*/bin/python")))
    return [name for name in sorted(names) if subprocess.run([name, "-c", ""], capture_output=True).returncode == 0]


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_the_partition_of_a_key_is_the_same_in_every_process_seed_and_python(seed: str) -> None:
    assert [partition_of(key, 16) for key in KEYS] == [4, 1, 10, 2, 3, 10]  # written down: stored messages depend on it
    for python in interpreters():
        done = subprocess.run(
            [python, "-c", PROGRAM, str(ROOT / "koan_django/messaging/routing.py"), repr(KEYS)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str([partition_of(key, 16) for key in KEYS]), python
