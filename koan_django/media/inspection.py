"""The checks that a file passes before anything is decoded or stored, cheapest first.

Size, first bytes, allowed formats, then width times height times frames from the header. Whether the pixels themselves
can be read is found out once, when they are decoded by whoever renders: a request does not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from koan_django.core.telemetry import span

from . import headers, metadata
from .conf import options
from .exceptions import RefusedError
from .formats import FORMATS, HEAD_BYTES, Format, sniff
from .opening import DAMAGE, open_image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

    from .conf import MediaOptions


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file's header says. ``width`` and ``height`` are in pixels as shown, with the orientation applied."""

    bytes: int
    format: Format
    width: int
    height: int
    frames: int
    orientation: int
    mode: str
    has_alpha: bool
    has_gps: bool

    @property
    def mime(self) -> str:
        """The media type, by content."""
        return self.format.mime

    @property
    def turned(self) -> bool:
        """Whether the stored rows are the shown columns."""
        return self.orientation >= 5


def inspect(stream: IO[bytes], *, declared_size: int | None = None, limits: MediaOptions | None = None) -> Inspection:
    """Check a seekable ``stream`` and say what it holds; leaves it at its start.

    ``declared_size`` is what the sender says, in bytes: a declaration beyond the limit is refused before reading.
    Raises :class:`RefusedError` with the stage that refused it; the same bytes are always refused again.
    """
    with span("media.inspect") as facts:
        limits = limits or options()
        size = _measure(stream, declared_size, limits)
        format = _identify(stream, limits)
        facts.update(bytes=size, format=format.name)
        found = _inspect(stream, size, format, limits)
        facts.update(width=found.width, height=found.height, frames=found.frames)
        stream.seek(0)
        return found


def _measure(stream: IO[bytes], declared: int | None, limits: MediaOptions) -> int:
    if declared is not None:
        _check_size(declared, limits)
    size = stream.seek(0, 2)
    if not size:
        raise RefusedError("size", "the file is empty")
    _check_size(size, limits)
    return size


def _check_size(size: int, limits: MediaOptions) -> None:
    if size > limits.max_bytes:
        raise RefusedError(
            "size",
            f"the file has {size:,} bytes and the limit is {limits.max_bytes:,}",
            fix="Send a smaller file or raise KOAN['MEDIA']['MAX_BYTES'].",
        )


def _identify(stream: IO[bytes], limits: MediaOptions) -> Format:
    stream.seek(0)
    kind = sniff(stream.read(HEAD_BYTES))
    if kind is None or not kind.picture:
        seen = f"they say {kind.label}" if kind else "they are those of no known format"
        raise RefusedError("magic", f"the first bytes are not a picture's: {seen}")
    if kind.format is None or kind.format.name not in limits.formats:
        allowed = ", ".join(FORMATS[name].name.upper() for name in limits.formats)
        raise RefusedError("format", f"it is {kind.label}, and the allowed formats are {allowed}")
    return kind.format


def _inspect(stream: IO[bytes], size: int, format: Format, limits: MediaOptions) -> Inspection:
    declared = headers.read(stream, format.name, limits.max_frames)
    if declared is not None:
        _check_pixels(declared.width, declared.height, declared.frames, limits)
    image = open_image(stream, format)
    frames = _frames(image, declared, limits)
    _check_pixels(*image.size, frames, limits)
    exif = metadata.read(image)
    orientation = metadata.orientation(format, exif)
    width, height = image.size[::-1] if orientation >= 5 else image.size
    return Inspection(
        bytes=size,
        format=format,
        width=width,
        height=height,
        frames=frames,
        orientation=orientation,
        mode=image.mode,
        has_alpha=metadata.has_alpha(image),
        has_gps=metadata.has_gps(exif),
    )


def _frames(image: ImageFile, declared: headers.Declared | None, limits: MediaOptions) -> int:
    """Count frames up to one more than allowed: asking Pillow for all of a hostile file's takes its time."""
    if image.format == "GIF":
        return declared.frames if declared else 1
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    count = 1
    try:
        while count <= limits.max_frames:
            image.seek(count)
            count += 1
    except DAMAGE:  # the end of the pages, or a page that nobody renders
        pass
    image.seek(0)
    return count


def _check_pixels(width: int, height: int, frames: int, limits: MediaOptions) -> None:
    if frames > limits.max_frames:
        reason = f"it has more than {limits.max_frames} frames"
        raise RefusedError("pixels", reason, fix="Raise KOAN['MEDIA']['MAX_FRAMES'] if such files are wanted.")
    pixels = width * height * frames
    if pixels > limits.max_pixels:
        times = f" x {frames} frames" if frames > 1 else ""
        raise RefusedError(
            "pixels",
            f"{width} x {height}{times} are {pixels:,} pixels and the limit is {limits.max_pixels:,}",
            fix="Send a smaller picture or raise KOAN['MEDIA']['MAX_PIXELS'].",
        )
    if not pixels:
        raise RefusedError("decode", "the header declares no pixels")
