"""Colours: every mode becomes one that can be resampled, and every profile becomes sRGB."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

#: What resampling works on. ``RGBa`` is RGBA with the colours multiplied by the opacity, so that the invisible colour
#: of transparent pixels does not bleed into their neighbours.
_READY = ("L", "RGB", "CMYK", "RGBa")
_PROFILE_MODES = {"RGB ": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}


def plain(image: Picture) -> Picture:
    """Return the pixels as L, RGB, CMYK or RGBa with 8 bits a channel: ``image`` itself where it is one already."""
    if image.mode.startswith("I;16"):
        image = _sixteen_bits(image)
    elif image.mode in ("I", "F"):
        image = _stretched(image)
    elif image.mode == "1":
        image = image.convert("L")
    if "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA"):
        return image.convert("RGBA").convert("RGBa")
    if image.mode == "LAB":
        return _converted(image, ImageCms.createProfile("LAB"), "RGB") or image.convert("RGB")
    return image if image.mode in _READY else image.convert("RGB")


def to_srgb(image: Picture, profile: bytes | None) -> Picture:
    """Return ``image`` (L, RGB, RGBA or CMYK) in sRGB. A profile that does not fit or cannot be read is ignored."""
    if profile and (found := _profile(profile)) is not None:
        source, space = found
        if image.mode in _PROFILE_MODES.get(space, ()):
            converted = _converted(image, source, "RGBA" if image.mode == "RGBA" else "RGB")
            if converted is not None:
                return converted
    return image.convert("RGB") if image.mode == "CMYK" else image


def flattened(image: Picture, colour: tuple[int, int, int, int]) -> Picture:
    """Return ``image`` without transparency, on ``colour``."""
    if image.mode != "RGBA":
        return image
    below = Image.new("RGBA", image.size, (*colour[:3], 255))
    return Image.alpha_composite(below, image).convert("RGB")


def _sixteen_bits(image: Picture) -> Picture:
    """Pillow's own conversion clips: everything above 255 would be white."""
    wide = image.convert("I")
    return wide.point(lambda value: value * (1 / 256) + 0).convert("L")


def _stretched(image: Picture) -> Picture:
    """Whole and real numbers have no white of their own: the largest in the picture is taken, 16 bits at the least."""
    low, high = _extrema(image)
    if image.mode == "I" and low >= 0 and high <= 65_535:
        low, high = 0.0, 65_535.0 if high > 255 else 255.0
    factor = 255.0 / (high - low) if high > low else 0.0
    offset = -low * factor
    return image.point(lambda value: value * factor + offset).convert("L")


def _extrema(image: Picture) -> tuple[float, float]:
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return float(low), float(high)


def _converted(image: Picture, source: Any, mode: str) -> Picture | None:
    try:
        return ImageCms.profileToProfile(image, source, _srgb(), outputMode=mode)
    except (ImageCms.PyCMSError, ValueError):
        return None


def _profile(data: bytes) -> tuple[ImageCms.ImageCmsProfile, str] | None:
    """The profile and its colour space, whose name is no text where the profile is damaged."""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return found, found.profile.xcolor_space
    except (OSError, TypeError, ValueError):
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
