"""Charts that are drawn on the server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koan_django.core.admin.charts import HEIGHT, LEFT, WIDTH, Series, _ceiling, chart, legend

START = datetime(2031, 5, 4, 12, 0, tzinfo=UTC)
END = START + timedelta(hours=1)


def drawn(*series: Series) -> ET.Element:
    return ET.fromstring(chart("Handled", series, start=START, end=END, unit="/s"))


def points(found: ET.Element) -> list[list[tuple[float, float]]]:
    pairs = [line.get("points", "").split() for line in found.iter("polyline")]
    return [[(float(pair.split(",")[0]), float(pair.split(",")[1])) for pair in each] for each in pairs]


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=80))
def test_whatever_the_values_are_all_of_it_is_inside_the_picture(values: list[float | None]) -> None:
    found = drawn(Series("a", values))
    for x, y in [point for line in points(found) for point in line]:
        assert LEFT <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    dots = len(list(found.iter("circle")))
    assert dots + sum(map(len, points(found))) == sum(value is not None for value in values)


def test_a_gap_is_a_gap() -> None:
    found = drawn(Series("a", [1, 2, None, 4, None, 5, 6]))
    assert [len(line) for line in points(found)] == [2, 2]
    assert len(list(found.iter("circle"))) == 1


def test_larger_is_higher_and_later_is_further_right() -> None:
    [line] = points(drawn(Series("a", [0, 5, 10])))
    assert line == [(48.0, 112.0), (264.0, 60.0), (480.0, 8.0)]


@pytest.mark.parametrize(("most", "ceiling"), [(0, 1), (0.03, 0.05), (1, 1), (7, 10), (11, 20), (430, 500), (1e6, 1e6)])
def test_the_scale_ends_at_a_round_number(most: float, ceiling: float) -> None:
    assert _ceiling(most) == pytest.approx(ceiling)


def test_it_says_in_words_what_it_shows_and_escapes_what_it_is_given() -> None:
    series = [Series("<b>handled</b>", [1, 12_345, 3]), Series("failed", [None])]
    text = chart("<i>", series, start=START, end=END, unit="/s")
    assert "&lt;b&gt;handled&lt;/b&gt;: now 3 /s, at most 12.3k /s; failed: now nothing, at most nothing" in text
    assert "<i>" not in text
    assert 'aria-label="&lt;i&gt;"' in text
    assert "&lt;b&gt;handled&lt;/b&gt; <b>3 /s</b>" in legend(series, "/s")


def test_nothing_in_it_needs_an_exception_in_a_content_security_policy() -> None:
    text = chart("a", [Series("a", [1, 2])], start=START, end=END)
    assert not re.search(r"<script|<style|style=|\son\w+=|javascript:", text)
