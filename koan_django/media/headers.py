"""What the header of a file declares, read without a decoder.

Some decoders reserve memory for the whole canvas, or walk every frame, as soon as they are opened. So the declared
size is read here first; what Pillow says afterwards is checked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .formats import FormatName


@dataclass(frozen=True, slots=True)
class Declared:
    """Pixels of the canvas and number of frames, as far as the header tells."""

    width: int
    height: int
    frames: int = 1


def read(stream: IO[bytes], format: FormatName, max_frames: int) -> Declared | None:
    """Return what ``stream`` declares, or ``None`` for a format whose opening costs nothing.

    Frames are counted up to one more than ``max_frames``.
    """
    reader = _READERS.get(format)
    if reader is None:
        return None
    stream.seek(0)
    return reader(stream, max_frames)


def _png(stream: IO[bytes], max_frames: int) -> Declared | None:
    """PNG, third edition, 11.2.1: IHDR is the first chunk."""
    head = stream.read(24)
    if head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return Declared(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def _webp(stream: IO[bytes], max_frames: int) -> Declared | None:
    """RFC 9649, section 2: the first chunk is VP8X, VP8L or VP8."""
    head = stream.read(30)
    chunk = head[12:16]
    if len(head) < 30:
        return None
    if chunk == b"VP8X":
        return Declared(int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1)
    if chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return Declared((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if chunk == b"VP8 ":
        return Declared(int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF)
    return None


def _gif(stream: IO[bytes], max_frames: int) -> Declared:
    """GIF89a: a frame may lie outside the logical screen, and decoders grow the canvas for it."""
    head = stream.read(13)
    width, height = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    _skip_colours(stream, head[10:11])
    frames = 0
    for right, bottom in _gif_frames(stream):
        frames += 1
        width, height = max(width, right), max(height, bottom)
        if frames > max_frames:
            break
    return Declared(width, height, max(frames, 1))


def _gif_frames(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    while block := stream.read(1):
        if block == b"\x2c":
            descriptor = stream.read(9)
            if len(descriptor) < 9:
                return
            left, top, width, height = (int.from_bytes(descriptor[at : at + 2], "little") for at in (0, 2, 4, 6))
            yield left + width, top + height
            _skip_colours(stream, descriptor[8:])
            stream.seek(1, 1)
        elif block == b"\x21":
            stream.seek(1, 1)
        else:
            return
        while size := stream.read(1):
            if size == b"\x00":
                break
            stream.seek(size[0], 1)


def _skip_colours(stream: IO[bytes], packed: bytes) -> None:
    if packed and packed[0] & 0x80:
        stream.seek(3 * 2 ** ((packed[0] & 7) + 1), 1)


_READERS: Mapping[str, Callable[[IO[bytes], int], Declared | None]] = {"png": _png, "webp": _webp, "gif": _gif}
