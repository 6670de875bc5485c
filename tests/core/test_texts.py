"""Text that is right in number, and fit for every database."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import koan_django
from koan_django.core.texts import counted

ROOT = Path(koan_django.__file__).parent
#: Said only of more than a limit allows.
MEASURES = {"bytes", "characters"}


@pytest.mark.parametrize(
    ("count", "one", "many", "text"),
    [
        (0, "message", "", "0 messages"),
        (1, "message", "", "1 message"),
        (2, "message", "", "2 messages"),
        (1, "batch", "batches", "1 batch"),
        (3, "batch", "batches", "3 batches"),
        (1, "event was", "events were", "1 event was"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, one: str, many: str, text: str) -> None:
    assert counted(count, one, many) == text


def plurals() -> Iterator[str]:
    """Yield where a text in an f-string says ``{len(…)}`` of a plural: that is wrong for one of them."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.JoinedStr):
                continue
            for value, after in zip(node.values, node.values[1:], strict=False):
                if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                    continue
                call = value.value
                word = re.match(r" (\w+s)\b", str(after.value))
                is_length = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "len"
                if is_length and word and word[1] not in MEASURES:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {{len(…)}} {word[1]}"


def test_no_text_of_the_code_counts_with_a_fixed_plural() -> None:
    assert list(plurals()) == []
