"""Pixels into a file, without any metadata."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import features

from koan_django.media.exceptions import RenderError

from .colour import flattened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from koan_django.media.formats import Format
    from koan_django.media.transforms import Background, Encode

WHITE = (255, 255, 255, 255)

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "jpeg": {"optimize": True, "progressive": True},
    "webp": {"method": 4},
    "tiff": {"compression": "tiff_deflate"},
}
#: Frames are written whole, so one must take the place of the one before and not be laid over it.
_ANIMATED: Mapping[str, Mapping[str, Any]] = {"gif": {"disposal": 2}, "png": {"disposal": 1, "blend": 0}}


def write(image: Image, format: Format, encode: Encode, background: Background | None) -> bytes:
    """Return ``image`` (L, RGB or RGBA) as a file."""
    return _saved(_prepared(image, format, background), format, encode, {})


def write_animation(
    images: Sequence[Image], durations: Sequence[int], loop: int, format: Format, encode: Encode
) -> bytes:
    """Return ``images`` as one animated file; ``durations`` are in milliseconds, ``loop`` 0 is for ever."""
    first, *rest = (_prepared(image, format, None) for image in images)
    extra = {"save_all": True, "append_images": rest, "duration": list(durations), "loop": loop}
    return _saved(first, format, encode, extra | dict(_ANIMATED.get(format.name, {})))


def _prepared(image: Image, format: Format, background: Background | None) -> Image:
    ready = image if format.alpha else flattened(image, background.rgba if background else WHITE)
    ready.info = {}  # Pillow's writers take profile and comment from here
    return ready


def _saved(image: Image, format: Format, encode: Encode, extra: Mapping[str, Any]) -> bytes:
    if format.name == "avif" and not features.check("avif"):
        raise RenderError("AVIF cannot be written", why="this Pillow was built without it", fix="Install its wheel.")
    quality = {"quality": encode.quality} if format.quality else {}
    written = io.BytesIO()
    image.save(written, format.name.upper(), **_SETTINGS.get(format.name, {}), **quality, **extra)
    return written.getvalue()
