"""Media: a thumbnail of 320 x 240 pixels from a photograph of 12 million, from bytes to bytes."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat

from benchmarks.harness import Case, Side, seconds_each

SERVERS: tuple[str, ...] = ()
SIZE = (320, 240)
QUALITY = 82
#: How much closer to the reference a peer may be, in decibels, before ours counts as another quality: no eye sees one.
TOLERANCE = 1.0
_MILLI = 1000
_NOTE = (
    "JPEG of 4000 x 3000 in memory to JPEG of 320 x 240 in memory: upright, Lanczos, quality 82, optimised,"
    " progressive, no storage. Ours also checks the file for damage and hostile sizes, and converts colours to sRGB."
    " Before it is timed each result is compared with a full decoding resampled by Lanczos: ours {ours:.1f} dB,"
    " peer {peer:.1f} dB."
)

Render = Callable[[bytes], bytes]


def cases() -> list[Case]:
    """Return the cases."""
    peers: list[tuple[str, str, float, Callable[[], Render]]] = [
        ("easy-thumbnails", "easy-thumbnails", 3, _easy_thumbnails),
        ("imagekit", "django-imagekit", 3, _imagekit),
        ("sorl", "sorl-thumbnail", 3.5, _sorl),
        ("willow", "Willow", 3.5, _willow),
    ]
    return [_case(name, package, goal, make()) for name, package, goal, make in peers]


def _case(name: str, package: str, goal: float, peer: Render) -> Case:
    ours = _ours()
    fidelity = {"ours": _decibels(ours(_photograph())), "peer": _decibels(peer(_photograph()))}
    assert fidelity["ours"] > fidelity["peer"] - TOLERANCE, f"not the same quality as {package}: {fidelity}"
    return Case(
        name=f"thumbnail-12mp/{name}",
        peer_name=f"{package} {version(package)}",
        unit="ms",
        goal=goal,
        sides=partial(_sides, ours, peer),
        rounds=15,
        note=_NOTE.format(**fidelity),
    )


@contextmanager
def _sides(ours: Render, peer: Render) -> Iterator[tuple[Side, Side]]:
    data = _photograph()
    yield lambda: seconds_each(lambda: ours(data), 2) * _MILLI, lambda: seconds_each(lambda: peer(data), 2) * _MILLI


@cache
def _photograph() -> bytes:
    """A drawn landscape with grain, about 3 MB, as a camera stores it."""
    from sampleproject.demo.pictures import SCENES, draw

    return draw(SCENES[0], Path(os.environ["BENCH_DIR"]), 0, width=4000, height=3000).read_bytes()


@cache
def _reference() -> Image.Image:
    return Image.open(io.BytesIO(_photograph())).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)


def _decibels(result: bytes) -> float:
    """Return how close ``result`` comes to the reference: the peak signal to noise ratio."""
    image = Image.open(io.BytesIO(result))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE)
    square = ImageStat.Stat(ImageChops.difference(image, _reference())).rms
    return 20 * math.log10(255 / math.sqrt(sum(each**2 for each in square) / len(square)))


def _ours() -> Render:
    from koan_django.media import recipe
    from koan_django.media.rendering import render_family

    thumbnail = recipe("bench", version=1).orient().resize(*SIZE).encode("jpeg", quality=QUALITY)
    return lambda data: render_family(io.BytesIO(data), [thumbnail])[0].content


def _easy_thumbnails() -> Render:
    from django.core.files.base import ContentFile
    from easy_thumbnails.files import get_thumbnailer

    options = {"size": SIZE, "quality": QUALITY}

    def render(data: bytes) -> bytes:
        thumbnail = get_thumbnailer(ContentFile(data), relative_name="photo.jpg").generate_thumbnail(options)
        thumbnail.file.seek(0)
        found: bytes = thumbnail.file.read()
        return found

    return render


def _imagekit() -> Render:
    from imagekit import ImageSpec
    from imagekit.processors import ResizeToFit, Transpose

    class Thumbnail(ImageSpec):  # type: ignore[misc]  # imagekit is not typed
        processors = [Transpose(), ResizeToFit(*SIZE)]
        format = "JPEG"
        options = {"quality": QUALITY, "optimize": True, "progressive": True}

    def render(data: bytes) -> bytes:
        made = Thumbnail(source=io.BytesIO(data)).generate()
        made.seek(0)
        found: bytes = made.read()
        return found

    return render


def _sorl() -> Render:
    from sorl.thumbnail.base import ThumbnailBackend
    from sorl.thumbnail.engines.pil_engine import Engine

    engine = Engine()
    options: dict[str, Any] = ThumbnailBackend.default_options | {"quality": QUALITY}

    def render(data: bytes) -> bytes:
        image = engine.create(engine.get_image(io.BytesIO(data)), SIZE, options)
        made = io.BytesIO()
        engine.write(image, options, made)
        return made.getvalue()

    return render


def _willow() -> Render:
    from willow.image import Image as Willow

    def render(data: bytes) -> bytes:
        made = io.BytesIO()
        image = Willow.open(io.BytesIO(data)).auto_orient().resize(SIZE)
        image.save_as_jpeg(made, quality=QUALITY, optimize=True, progressive=True)
        return made.getvalue()

    return render
