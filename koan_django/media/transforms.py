"""The operations of a recipe: what is done, never how.

Each has a name and a *revision*, to be raised when a default or the behaviour changes: results of the old one are then
rendered again. They run in the order of their ``stage``, whatever the order they were written in.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal

from koan_django.core.suggestions import did_you_mean

from .formats import FORMATS, FormatName

#: How a picture meets a box. ``cover`` fills it and crops, ``contain`` fits and pads, ``fill`` stretches, ``inside``
#: fits without padding, ``outside`` covers without cropping.
Fit = Literal["contain", "cover", "fill", "inside", "outside"]
FITS: tuple[Fit, ...] = ("contain", "cover", "fill", "inside", "outside")

DEFAULT_QUALITY = 82
_COLOUR = re.compile(r"#[0-9a-f]{6}(?:[0-9a-f]{2})?")
_LARGEST = 65_535


@dataclass(frozen=True, slots=True)
class Operation:
    """Base of the operations."""

    name: ClassVar[str]
    revision: ClassVar[int]
    stage: ClassVar[int]

    def canonical(self) -> list[Any]:
        """Return name, revision and the parameters that differ from their defaults."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.default is MISSING or getattr(self, field.name) != field.default
        }
        return [self.name, self.revision, given]


@dataclass(frozen=True, slots=True)
class Orient(Operation):
    """Turn the picture the way its EXIF orientation says."""

    name: ClassVar[str] = "orient"
    revision: ClassVar[int] = 1
    stage: ClassVar[int] = 10


@dataclass(frozen=True, slots=True)
class Resize(Operation):
    """Scale to ``width`` and ``height`` in pixels; one of them is enough, and then the proportions stay."""

    name: ClassVar[str] = "resize"
    revision: ClassVar[int] = 1
    stage: ClassVar[int] = 20

    width: int | None = None
    height: int | None = None
    fit: Fit = "inside"
    upscale: bool = False

    def __post_init__(self) -> None:
        if self.width is None and self.height is None:
            raise ValueError("resize() needs a width or a height")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None:
                _whole(f"resize({name})", value, 1, _LARGEST)
        _one_of("resize(fit)", self.fit, FITS)


@dataclass(frozen=True, slots=True)
class Background(Operation):
    """The colour behind padding, and behind transparency where the format has none: ``#rrggbb`` or ``#rrggbbaa``."""

    name: ClassVar[str] = "background"
    revision: ClassVar[int] = 1
    stage: ClassVar[int] = 30

    colour: str

    def __post_init__(self) -> None:
        if not isinstance(self.colour, str) or not _COLOUR.fullmatch(self.colour):
            raise ValueError(f"background() wants #rrggbb or #rrggbbaa in lower case, not {self.colour!r}")

    @property
    def rgba(self) -> tuple[int, int, int, int]:
        """Red, green, blue and opacity, 0 to 255 each."""
        red, green, blue, alpha = bytes.fromhex(self.colour[1:].ljust(8, "f"))
        return red, green, blue, alpha


@dataclass(frozen=True, slots=True)
class Encode(Operation):
    """Write as ``format``, or in the source's own without one. ``animated`` keeps all frames."""

    name: ClassVar[str] = "encode"
    revision: ClassVar[int] = 1
    stage: ClassVar[int] = 90

    format: FormatName | None = None
    quality: int = DEFAULT_QUALITY
    animated: bool = False

    def __post_init__(self) -> None:
        _whole("encode(quality)", self.quality, 1, 100)
        if self.format is None:
            return
        _one_of("encode(format)", self.format, tuple(FORMATS))
        known = FORMATS[self.format]
        if self.quality != DEFAULT_QUALITY and not known.quality:
            raise ValueError(f"encode(): {self.format} is lossless and takes no quality")
        if self.animated and not known.animation:
            raise ValueError(f"encode(): {self.format} holds a single picture and cannot be animated")


def _whole(what: str, value: object, least: int, most: int) -> None:
    """A float that happens to be whole would give the same picture another name."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} wants a whole number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be between {least} and {most}, not {value}")


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{what}: {value!r} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}")
