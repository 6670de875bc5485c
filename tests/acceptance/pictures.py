"""Pictures of many kinds, and files that are none."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from PIL import Image

# By its path: the sample project's package would tie this very process to its Celery.
_SPEC = spec_from_file_location("demo_pictures", Path(__file__).parents[2] / "sampleproject/demo/pictures.py")
_MODULE = sys.modules["demo_pictures"] = module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
Scene, draw = _MODULE.Scene, _MODULE.draw


def photographs(folder: Path, count: int, width: int = 2400, height: int = 1800) -> list[Path]:
    """Draw ``count`` photographs, every orientation in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [Scene(f"photo {n:02d}.jpg", n % 8 + 1, 40.0 + n, -3.0 - n, 6 + n % 14) for n in range(count)]
    return [draw(scene, folder, seed, width=width, height=height) for seed, scene in enumerate(scenes)]


def kinds(folder: Path) -> dict[str, Path]:
    """Pictures that cameras and people really have, one of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    ramp = Image.linear_gradient("L").resize((900, 600))
    colour = Image.merge("RGB", (ramp, ramp.rotate(180), ramp.resize((600, 900)).resize((900, 600))))
    alpha = colour.convert("RGBA")
    alpha.putalpha(ramp)
    deep = Image.new("I;16", (800, 500))
    deep.putdata([(x * 80) % 65536 for x in range(800 * 500)])
    frames = [colour.rotate(angle) for angle in (0, 20, 40)]
    saved = {
        "alpha [layer] (1).png": lambda path: alpha.save(path),
        "print ready.jpg": lambda path: colour.convert("CMYK").save(path, quality=90),
        "sixteen bit.png": lambda path: deep.save(path),
        "moving 動画.webp": lambda path: frames[0].save(path, save_all=True, append_images=frames[1:], duration=80),
        "palette.gif": lambda path: colour.convert("P").save(path),
        "grey.jpg": lambda path: ramp.save(path, quality=85),
        "panorama.jpg": lambda path: colour.resize((4000, 400)).save(path, quality=85),
    }
    for name, save in saved.items():
        save(folder / name)
    return {name: folder / name for name in saved}


def hostile(folder: Path) -> dict[str, str]:
    """Write files that must be refused; return the stage of each by name."""
    folder.mkdir(parents=True, exist_ok=True)
    jpeg = io.BytesIO()
    Image.linear_gradient("L").resize((1200, 900)).convert("RGB").save(jpeg, "JPEG", quality=90)
    whole = jpeg.getvalue()
    files: dict[str, tuple[bytes, str]] = {
        "a text.jpg": (b"Dear reader, this is no picture at all.\n" * 40, "magic"),
        "empty.jpg": (b"", "size"),
        "cut short.jpg": (whole[: len(whole) // 2], "decode"),
        "scrambled.jpg": (whole[:700] + bytes(255 - byte for byte in whole[700:4000]) + whole[4000:], "decode"),
        "bomb.png": (_bomb(60_000, 60_000), "pixels"),
        "page.html.png": (b"<!doctype html><script>alert(1)</script>", "magic"),
    }
    for name, (content, _stage) in files.items():
        (folder / name).write_bytes(content)
    return {name: stage for name, (_content, stage) in files.items()}


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that would decode to gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
