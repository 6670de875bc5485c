"""The picture formats that media knows, and how a file is recognised by its first bytes.

Neither the extension nor the type that a client declares takes part: both are claims of whoever sent the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

FormatName = Literal["jpeg", "png", "webp", "gif", "avif", "tiff", "bmp"]

#: How many first bytes :func:`sniff` wants to see.
HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be read and written. ``extensions`` begins with the one that new files get."""

    name: FormatName
    mime: str
    extensions: tuple[str, ...]
    alpha: bool
    animation: bool
    quality: bool


FORMATS: Mapping[str, Format] = {
    known.name: known
    for known in (
        Format("jpeg", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), alpha=False, animation=False, quality=True),
        Format("png", "image/png", (".png", ".apng"), alpha=True, animation=True, quality=False),
        Format("webp", "image/webp", (".webp",), alpha=True, animation=True, quality=True),
        Format("gif", "image/gif", (".gif",), alpha=True, animation=True, quality=False),
        Format("avif", "image/avif", (".avif", ".avifs"), alpha=True, animation=True, quality=True),
        Format("tiff", "image/tiff", (".tif", ".tiff"), alpha=True, animation=False, quality=False),
        Format("bmp", "image/bmp", (".bmp", ".dib"), alpha=False, animation=False, quality=False),
    )
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is by its first bytes: ``format`` when media can read it, else the words for it."""

    label: str
    format: Format | None = None
    picture: bool = True


#: In this order: signature, then what it says. The numbers are those of the formats' specifications.
_SIGNATURES: tuple[tuple[re.Pattern[bytes], Kind], ...] = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\xff\xd8\xff", Kind("JPEG", FORMATS["jpeg"])),
        (rb"\x89PNG\r\n\x1a\n", Kind("PNG", FORMATS["png"])),
        (rb"RIFF....WEBP", Kind("WebP", FORMATS["webp"])),
        (rb"GIF8[79]a", Kind("GIF", FORMATS["gif"])),
        (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", Kind("TIFF", FORMATS["tiff"])),
        (rb"BM.{4}\x00{4}", Kind("BMP", FORMATS["bmp"])),
        (rb"8BPS", Kind("a Photoshop document")),
        (rb"\x00\x00[\x01\x02]\x00", Kind("an icon")),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", Kind("JPEG 2000")),
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", Kind("JPEG XL")),
        (rb"%PDF-", Kind("a PDF document", picture=False)),
        (rb"%!PS", Kind("a PostScript program", picture=False)),
        (rb"PK\x03\x04", Kind("a ZIP archive", picture=False)),
        (rb"\x7fELF|MZ", Kind("a program", picture=False)),
        (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b", Kind("SVG")),
        (rb"(\xef\xbb\xbf)?\s*<(?i:!doctype|html|head|body|script|\?xml)", Kind("markup", picture=False)),
    )
)
_BOX = re.compile(rb"....ftyp(.{4})....", re.DOTALL)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def sniff(head: bytes) -> Kind | None:
    """Return what a file is that begins with ``head``, or ``None`` when its first bytes are those of nothing known."""
    for signature, kind in _SIGNATURES:
        if signature.match(head):
            return kind
    return _boxed(head) or (Kind("text", picture=False) if _TEXT.fullmatch(head) else None)


def _boxed(head: bytes) -> Kind | None:
    """ISO base media files name a major brand and others that they are compatible with (ISO/IEC 14496-12, 4.3)."""
    found = _BOX.match(head)
    if found is None:
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {found[1], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return Kind("AVIF", FORMATS["avif"])
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return Kind("HEIC")
    return Kind("a video", picture=False)


def by_mime(mime: str) -> Format | None:
    """Return the format whose media type is ``mime``."""
    return next((known for known in FORMATS.values() if known.mime == mime), None)
