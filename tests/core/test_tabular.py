"""A cell that a stranger wrote is text to a spreadsheet, whatever it begins with."""

from __future__ import annotations

import csv

import pytest

from koan_django.core.tabular import comma_separated


def written(cell: object) -> str:
    *_header, (text,) = csv.reader(comma_separated(["text"], [[cell]]))
    return text


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@x", "\t1", "\rx", " =cmd|x", "\n=HYPERLINK(1)", " \t\n +1", "\u00a0=1"]
)
def test_a_formula_gets_an_apostrophe_also_behind_blanks(cell: str) -> None:
    assert written(cell) == f"'{cell}"


@pytest.mark.parametrize(("cell", "text"), [("", ""), ("  ", "  "), (" a=1", " a=1"), (-1, "-1")])
def test_anything_else_stays_as_it_is(cell: object, text: str) -> None:
    assert written(cell) == text
