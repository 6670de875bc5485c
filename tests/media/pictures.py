"""Pictures drawn on the spot, as cameras, scanners and attackers make them."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

from PIL import Image, ImageCms, ImageDraw

ORIENTATION = 0x0112
GPS = 0x8825

#: Corners of an upright picture, clockwise from the top left.
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 220, 30)


def quadrants(width: int = 400, height: int = 300) -> Image.Image:
    """Four colours, so that a turn, a flip or a crop shows."""
    image = Image.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2), fill=GREEN)
    draw.rectangle((width // 2, height // 2, width, height), fill=BLUE)
    draw.rectangle((0, height // 2, width // 2, height), fill=YELLOW)
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, format, **options)
    return written.getvalue()


#: What has to be done to an upright picture so that its orientation turns it back.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def camera(orientation: int = 1, width: int = 400, height: int = 300, *, gps: bool = True) -> bytes:
    """A JPEG that shows :func:`quadrants` upright, stored the way the camera was held."""
    image = quadrants(width, height)
    if orientation in _STORED:
        image = image.transpose(_STORED[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Camera works"
    if gps:
        exif[GPS] = {1: "N", 2: (41.0, 23.0, 10.0), 3: "E", 4: (2.0, 10.0, 30.0)}
    return saved(image, "JPEG", quality=92, exif=exif, comment=b"at home", icc_profile=srgb())


@cache
def srgb() -> bytes:
    """A profile says when it was made, so one is made for all."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def alpha_png() -> bytes:
    """Green in the middle, transparent red around it."""
    image = Image.new("RGBA", (200, 200), (255, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((50, 50, 149, 149), fill=(0, 200, 0, 255))
    return saved(image, "PNG")


def cmyk_jpeg() -> bytes:
    return saved(quadrants().convert("CMYK"), "JPEG", quality=95)


def sixteen_bit_png() -> bytes:
    """Grey from black to white in 16 bits."""
    image = Image.new("I;16", (256, 64))
    image.putdata([column * 257 for _ in range(64) for column in range(256)])
    return saved(image, "PNG")


def rgb48_png(width: int = 64, height: int = 32) -> bytes:
    """Orange with 16 bits a channel, written by hand: Pillow has no mode for it."""
    row = b"\0" + struct.pack(">HHH", 0xFF00, 0x8000, 0x1000) * width
    return png(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), zlib.compress(row * height))


def animated_webp(frames: int = 3) -> bytes:
    colours = [RED, GREEN, BLUE, YELLOW]
    images = [Image.new("RGB", (120, 80), colours[index % 4]) for index in range(frames)]
    return saved(images[0], "WEBP", save_all=True, append_images=images[1:], duration=80, loop=2, lossless=True)


def animated_gif(frames: int = 3) -> bytes:
    colours = [RED, GREEN, BLUE, YELLOW]
    images = [Image.new("RGB", (120, 80), colours[index % 4]) for index in range(frames)]
    return saved(images[0], "GIF", save_all=True, append_images=images[1:], duration=80, loop=0)


def palette_gif() -> bytes:
    """A palette with a transparent entry."""
    image = Image.new("P", (100, 60), 0)
    image.putpalette([0, 0, 0, 30, 200, 30])
    ImageDraw.Draw(image).rectangle((20, 10, 79, 49), fill=1)
    return saved(image, "GIF", transparency=0)


def png(header: bytes, data: bytes, *, more: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A picture of 900 megapixels in a few kilobytes, its data not even complete."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(bytes(4_000_000), 9))


def gif_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A logical screen of one pixel, and a frame that is much larger."""
    image = saved(Image.new("P", (1, 1)), "GIF")
    at = image.index(b"\x2c")
    size = struct.pack("<HH", width, height)
    return image[: at + 5] + size + image[at + 9 :]


def webp_bomb() -> bytes:
    """11,000 by 11,000 pixels of one colour, whole and lossless, in 34 bytes; Pillow takes seconds to write them."""
    return bytes.fromhex("524946461a000000574542505650384c0e0000002ff7eabd0a071011fd0f4444ff03")


def gif_of_many_frames(frames: int) -> bytes:
    """As small as frames can be."""
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0" + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return head + frame * frames + b"\x3b"


def noise(width: int = 640, height: int = 480) -> Image.Image:
    """Something that does not compress to nothing."""
    return Image.effect_noise((width, height), 60).convert("RGB")


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def near(found: object, wanted: tuple[int, ...], tolerance: int = 12) -> bool:
    return isinstance(found, tuple) and all(
        abs(one - other) <= tolerance for one, other in zip(found, wanted, strict=False)
    )
