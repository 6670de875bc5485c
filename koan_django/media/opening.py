"""Opens a file with the one decoder that its first bytes call for."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from importlib import import_module
from typing import IO, TYPE_CHECKING

from PIL.Image import DecompressionBombError

from .exceptions import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.ImageFile import ImageFile

    from .formats import Format

#: What readers and decoders raise over hostile data: nearly anything. Not among it are a lack of memory and the time
#: limit of a worker, which say nothing against the picture.
DAMAGE: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    DecompressionBombError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)

_DECODERS: Mapping[str, tuple[str, str]] = {
    "jpeg": ("JpegImagePlugin", "JpegImageFile"),
    "png": ("PngImagePlugin", "PngImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
}


def open_image(stream: IO[bytes], format: Format) -> ImageFile:
    """Read the header and no pixels; raises :class:`RefusedError` at ``decode`` when it cannot be read.

    ``Image.open`` would compare the size with a limit that is global to the process, warn by the process's filters,
    and hand a JPEG over to another decoder by what stands in its metadata. The decoder itself does none of that; the
    limits are checked by :mod:`.inspection`.
    """
    stream.seek(0)
    try:
        image: ImageFile = _decoder(format.name)(stream)
    except DAMAGE as error:
        raise damaged(format, error) from error
    return image


def damaged(format: Format, error: BaseException | str) -> RefusedError:
    """Return the refusal of a file that ends early or is corrupt."""
    return RefusedError("decode", f"the {format.name.upper()} data ends early or is damaged ({error})")


@cache
def _decoder(name: str) -> type[ImageFile]:
    module, decoder = _DECODERS[name]
    found: type[ImageFile] = getattr(import_module(f"PIL.{module}"), decoder)
    return found
