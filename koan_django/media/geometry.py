"""Where a picture goes in its box: plain arithmetic, no pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .transforms import Resize

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """``box`` of the source is scaled to ``size`` and laid in the middle of ``canvas``; all in pixels."""

    box: Box
    size: Size
    canvas: Size

    @property
    def scale(self) -> float:
        """The larger of the two factors between source and result."""
        left, top, right, bottom = self.box
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))


def place(source: Size, resize: Resize | None, max_edge: int) -> Placement:
    """Lay a picture of ``source`` pixels out as ``resize`` says. No side of the result is longer than ``max_edge``."""
    if resize is None:
        return _whole(source, 1.0, max_edge)
    most = float("inf") if resize.upscale else 1.0
    if resize.width is None or resize.height is None:
        scale = resize.width / source[0] if resize.width else (resize.height or 0) / source[1]
        return _whole(source, min(scale, most), max_edge)
    box = _within((resize.width, resize.height), max_edge)
    horizontal, vertical = box[0] / source[0], box[1] / source[1]
    if resize.fit == "inside":
        return _whole(source, min(horizontal, vertical, most), max_edge)
    if resize.fit == "outside":
        return _whole(source, min(max(horizontal, vertical), most), max_edge)
    if resize.fit == "contain":
        inner = _whole(source, min(horizontal, vertical, most), max_edge)
        return Placement(inner.box, inner.size, box)
    if resize.fit == "fill":
        size = _rounded(source[0] * min(horizontal, most), source[1] * min(vertical, most))
        return Placement(_all(source), size, size)
    return _cover(source, box, most)


def _cover(source: Size, box: Size, most: float) -> Placement:
    """The box keeps its proportions where the picture is too small for it."""
    shrink = min(1.0, source[0] * most / box[0], source[1] * most / box[1])
    size = _rounded(box[0] * shrink, box[1] * shrink)
    scale = max(size[0] / source[0], size[1] / source[1])
    width, height = min(size[0] / scale, source[0]), min(size[1] / scale, source[1])
    left, top = (source[0] - width) / 2, (source[1] - height) / 2
    return Placement((left, top, left + width, top + height), size, size)


def _whole(source: Size, scale: float, max_edge: int) -> Placement:
    size = _within(_rounded(source[0] * scale, source[1] * scale), max_edge)
    return Placement(_all(source), size, size)


def _within(size: Size, max_edge: int) -> Size:
    shrink = min(1.0, max_edge / max(size))
    return size if shrink == 1.0 else _rounded(size[0] * shrink, size[1] * shrink)


def _all(source: Size) -> Box:
    return (0.0, 0.0, float(source[0]), float(source[1]))


def _rounded(width: float, height: float) -> Size:
    return max(1, round(width)), max(1, round(height))
