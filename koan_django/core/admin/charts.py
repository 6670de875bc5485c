"""Small charts, drawn on the server as SVG: no script, no inline style, so any content security policy lets them be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.utils.safestring import SafeString

WIDTH, HEIGHT = 480, 130
#: Room for the labels: of the scale on the left, of the times below.
LEFT, BOTTOM, TOP = 48, 18, 8


@dataclass(frozen=True, slots=True)
class Series:
    """One line: a value for each step of time, ``None`` where nothing is known."""

    label: str
    values: Sequence[float | None]


def chart(title: str, series: Sequence[Series], *, start: datetime, end: datetime, unit: str = "") -> SafeString:
    """Return an SVG of ``series`` over the time from ``start`` to ``end``; at most four lines can be told apart.

    Whoever cannot see it is told the latest and the largest value of each line.
    """
    most = _ceiling(max((value for each in series for value in each.values if value is not None), default=0.0))
    drawn = format_html_join("", "{}", ((_drawn(each, number, most),) for number, each in enumerate(series, start=1)))
    return format_html(
        '<svg class="koan-chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}{}'
        "</svg>",
        WIDTH,
        HEIGHT,
        title,
        title,
        _described(series, unit),
        _frame(most, start, end, unit),
        drawn,
    )


def legend(series: Sequence[Series], unit: str = "") -> SafeString:
    """Return what the lines of a chart mean, with the latest value of each."""
    lines = ((number, each.label, _shown(_latest(each), unit)) for number, each in enumerate(series, start=1))
    items = format_html_join("", '<li><span class="koan-key koan-key-{}"></span>{} <b>{}</b></li>', lines)
    return format_html('<ul class="koan-legend">{}</ul>', items)


def _frame(most: float, start: datetime, end: datetime, unit: str) -> SafeString:
    """The scale, with a line at its half and its end, and the times."""
    floor = HEIGHT - BOTTOM
    marks = [(0.0, floor), (most / 2, (floor + TOP) / 2), (most, TOP)]
    scale = format_html_join(
        "",
        '<line class="koan-grid" x1="{}" y1="{}" x2="{}" y2="{}"/><text class="koan-tick koan-tick-end" x="{}" y="{}">'
        "{}</text>",
        ((LEFT, y, WIDTH, y, LEFT - 6, y + 4, _shown(value, unit)) for value, y in marks),
    )
    times = format_html(
        '<text class="koan-tick" x="{}" y="{}">{}</text><text class="koan-tick koan-tick-end" x="{}" y="{}">{}</text>',
        LEFT,
        HEIGHT - 3,
        _time(start),
        WIDTH,
        HEIGHT - 3,
        _time(end),
    )
    return format_html("{}{}", scale, times)


def _drawn(series: Series, number: int, most: float) -> SafeString:
    """The line, broken where nothing is known; a value that stands alone is a dot."""
    runs = list(_runs(series.values, most))
    lines = format_html_join(
        "",
        '<polyline class="koan-line koan-line-{}" points="{}"/>',
        ((number, " ".join(f"{x:g},{y:g}" for x, y in run)) for run in runs if len(run) > 1),
    )
    dots = format_html_join(
        "",
        '<circle class="koan-dot koan-dot-{}" cx="{}" cy="{}" r="2"/>',
        ((number, f"{run[0][0]:g}", f"{run[0][1]:g}") for run in runs if len(run) == 1),
    )
    return format_html("{}{}", lines, dots)


def _runs(values: Sequence[float | None], most: float) -> Iterator[list[tuple[float, float]]]:
    """Yield the points of each unbroken piece."""
    step = (WIDTH - LEFT) / max(len(values) - 1, 1)
    height = HEIGHT - BOTTOM - TOP
    for known, piece in groupby(enumerate(values), key=lambda entry: entry[1] is not None):
        if known:
            yield [
                (round(LEFT + index * step, 1), round(TOP + height * (1 - (value or 0.0) / most), 1))
                for index, value in piece
            ]


def _ceiling(most: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten: scales that are read at a glance."""
    if most < 1e-9:  # nothing that anybody measures
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * factor for factor in (1, 2, 5, 10) if most <= power * factor * 1.0000001)


def _described(series: Sequence[Series], unit: str) -> str:
    return "; ".join(
        _("%(label)s: now %(latest)s, at most %(most)s")
        % {"label": each.label, "latest": _shown(_latest(each), unit), "most": _shown(_most(each), unit)}
        for each in series
    )


def _latest(series: Series) -> float | None:
    return next((value for value in reversed(series.values) if value is not None), None)


def _most(series: Series) -> float | None:
    return max((value for value in series.values if value is not None), default=None)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return _("nothing")
    if unit == "ms" and value >= 1000:
        value, unit = value / 1000, "s"
    text = f"{value / 1000:.3g}k" if value >= 10_000 else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def _time(when: datetime) -> str:
    return formats.time_format(timezone.localtime(when), "H:i")
