"""What the metadata of a picture says that matters here: which way is up, and whether it tells a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from .opening import DAMAGE

if TYPE_CHECKING:
    from .formats import Format

_ORIENTATION = 0x0112
_GPS = 0x8825


def read(image: Image.Image) -> Image.Exif | None:
    """Return the EXIF data, or ``None`` when it cannot be read: it is dropped anyway, and refuses no picture."""
    try:
        # A PNG's own method decodes the whole picture to find metadata at its end.
        return Image.Image.getexif(image)
    except DAMAGE:
        return None


def orientation(format: Format, exif: Image.Exif | None) -> int:
    """Return the EXIF orientation (tag 0x0112), from 1 to 8. Pillow applies that of a TIFF itself, size included."""
    found = exif.get(_ORIENTATION, 1) if exif is not None and format.name != "tiff" else 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def has_gps(exif: Image.Exif | None) -> bool:
    """Whether there is a place in it; one that cannot be read counts."""
    try:
        return exif is not None and bool(exif.get_ifd(_GPS))
    except DAMAGE:  # unreadable, and yet there
        return True


def has_alpha(image: Image.Image) -> bool:
    """Whether some of the picture may be transparent."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
