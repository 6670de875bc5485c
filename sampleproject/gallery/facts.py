"""What a picture file says about its camera and its place, before and after."""

from __future__ import annotations

from typing import IO, Any

from PIL import ExifTags, Image

_CAMERA = {"Make": "maker", "Model": "camera", "DateTime": "taken"}


def read(stream: IO[bytes]) -> dict[str, Any]:
    """Return orientation (1 to 8), position (degrees) and camera of a picture that was inspected before."""
    image = Image.open(stream)
    exif = Image.Image.getexif(image)
    found: dict[str, Any] = {
        "format": (image.format or "").lower(),
        "stored_width": image.width,
        "stored_height": image.height,
        "orientation": int(exif.get(ExifTags.Base.Orientation, 1)),
        "position": _position(dict(exif.get_ifd(ExifTags.IFD.GPSInfo))),
        "tags": len(exif),
    }
    for tag, name in _CAMERA.items():
        value = exif.get(ExifTags.Base[tag])
        if value:
            found[name] = str(value).strip("\x00 ")[:80]
    return found


def _position(gps: dict[int, Any]) -> list[float] | None:
    """Return latitude and longitude in degrees, or ``None``; what cannot be read is no position."""
    try:
        latitude = _degrees(gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLatitudeRef], "S")
        longitude = _degrees(gps[ExifTags.GPS.GPSLongitude], gps[ExifTags.GPS.GPSLongitudeRef], "W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return [round(latitude, 5), round(longitude, 5)]


def _degrees(parts: Any, reference: str, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if reference == negative else value
