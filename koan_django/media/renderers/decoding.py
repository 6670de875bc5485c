"""Pixels out of a file, once for a whole family of sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from PIL.Image import Image, Transpose

from koan_django.core.telemetry import span
from koan_django.media import integrity, metadata
from koan_django.media.geometry import Size
from koan_django.media.opening import DAMAGE, damaged, open_image

from .colour import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from koan_django.media.formats import Format
    from koan_django.media.inspection import Inspection

#: A JPEG decodes at an eighth, a quarter or a half for a fraction of the cost. It is asked for this many times what
#: is needed, and the rest of the way is resampled well.
GAP = 3.0
_DEFAULT_DURATION = 100

#: EXIF 2.32, tag 0x0112: what makes the stored picture stand upright.
_TURNS: Mapping[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Decoded pixels. ``size`` is the full size of the picture as stored, which the pixels may fall short of.

    ``duration`` is in milliseconds.
    """

    image: Image
    size: Size
    orientation: int
    profile: bytes | None
    duration: int = _DEFAULT_DURATION

    def turned(self) -> Frame:
        """Return the frame upright."""
        turn = _TURNS.get(self.orientation)
        if turn is None:
            return self
        size = self.size[::-1] if self.orientation >= 5 else self.size
        return Frame(self.image.transpose(turn), size, 1, self.profile, self.duration)


@dataclass(frozen=True, slots=True)
class Animation:
    """How frames follow one another: ``loop`` 0 is for ever."""

    frames: Iterator[Frame]
    loop: int


def decode(stream: IO[bytes], found: Inspection, scale: float) -> Frame:
    """Decode the first frame, a JPEG at no more than ``scale`` of its size needs.

    Raises :class:`RefusedError` at ``decode``.
    """
    with span("media.decode", format=found.format.name, width=found.width, height=found.height, frames=1):
        try:
            integrity.verify(stream, found.format)
            image = open_image(stream, found.format)
            full = image.size
            image.draft(None, _at_least(full, scale * GAP))
            image.load()
            return _frame(image, full if found.format.name == "jpeg" else image.size, found.format)
        except DAMAGE as error:
            raise damaged(found.format, error) from error


def animation(stream: IO[bytes], found: Inspection) -> Animation:
    """Return every frame in turn, each decoded when it is asked for."""
    integrity.verify(stream, found.format)
    image = open_image(stream, found.format)
    loop = image.info.get("loop", 0)
    return Animation(_frames(image, found), loop if isinstance(loop, int) else 0)


def _at_least(size: Size, scale: float) -> Size:
    return max(1, math.ceil(size[0] * scale)), max(1, math.ceil(size[1] * scale))


def _frames(image: Image, found: Inspection) -> Iterator[Frame]:
    with span("media.decode", format=found.format.name, width=found.width, height=found.height, frames=found.frames):
        for index in range(found.frames):
            try:
                image.seek(index)
                image.load()
                frame = _frame(image, image.size, found.format)
            except DAMAGE as error:
                raise damaged(found.format, f"frame {index + 1}: {error}") from error
            yield frame


def _frame(image: Image, size: Size, format: Format) -> Frame:
    upright = metadata.orientation(format, metadata.read(image))
    profile = image.info.get("icc_profile")
    duration = image.info.get("duration", _DEFAULT_DURATION)
    return Frame(plain(image), size, upright, profile or None, round(duration) or _DEFAULT_DURATION)
