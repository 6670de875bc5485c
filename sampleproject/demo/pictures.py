"""Draws photographs at camera size, with the orientation and the position that a camera writes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 4032, 3024
#: Drawn small and enlarged: the shapes are soft, and the grain is added at full size.
SCALE = 4

#: What turns the shown picture back into what the sensor stored, by EXIF orientation.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture to draw: its file name, how the camera was held, where, and the hour of the day."""

    name: str
    orientation: int
    latitude: float
    longitude: float
    hour: float


SCENES = (
    Scene("harbour at dawn.jpg", 1, 43.3623, -8.4115, 6.5),
    Scene("ridge, first light.jpg", 6, 42.6026, -5.5703, 7.5),
    Scene("café (morning) [1].jpg", 1, 40.4168, -3.7038, 9.0),
    Scene("Straße nach Süden.jpg", 8, 47.3769, 8.5417, 10.0),
    Scene("北の海.jpg", 1, 43.0618, 141.3545, 11.0),
    Scene("noon over the fields.jpg", 3, 41.6523, -4.7245, 12.0),
    Scene("isla & faro.jpg", 1, 39.5696, 2.6502, 13.5),
    Scene("upside down #2.jpg", 3, 37.3891, -5.9845, 15.0),
    Scene("mirror lake.jpg", 2, 46.9480, 7.4474, 16.5),
    Scene("Þingvellir & öxará.jpg", 6, 64.2559, -21.1295, 18.0),
    Scene("sunset 100%.jpg", 5, 36.1408, -5.3536, 19.5),
    Scene("night ferry 🌙.jpg", 7, 38.7223, -9.1393, 21.5),
)


def draw_all(folder: Path) -> list[Path]:
    """Draw the twelve pictures into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(scene, folder, seed) for seed, scene in enumerate(SCENES)]


def draw(scene: Scene, folder: Path, seed: int, *, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Draw one landscape, store it as a camera held that way would, and return its path."""
    upright = _landscape(scene, random.Random(seed), width, height)  # noqa: S311  # the same pictures each time
    stored = upright.transpose(_STORED[scene.orientation]) if scene.orientation in _STORED else upright
    path = folder / scene.name
    stored.save(path, "JPEG", quality=90, exif=_exif(scene, seed))
    return path


def _landscape(scene: Scene, chance: random.Random, width: int, height: int) -> Image.Image:
    w, h = width // SCALE, height // SCALE
    picture = _sky(scene.hour, w, h)
    pen = ImageDraw.Draw(picture)
    _sun(pen, scene.hour, w, h)
    for layer in range(4):
        _ridge(pen, chance, layer, scene.hour, w, h)
    picture = picture.filter(ImageFilter.GaussianBlur(1)).resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((width // 2, height // 2), 22).resize((width, height))
    return Image.blend(picture, Image.merge("RGB", (grain, grain, grain)), 0.06)


def _sky(hour: float, w: int, h: int) -> Image.Image:
    day = max(0.0, math.sin((hour - 5) / 16 * math.pi))
    top = (int(20 + 60 * day), int(30 + 110 * day), int(70 + 150 * day))
    low = (int(240 - 60 * day), int(140 + 70 * day), int(110 + 120 * day))
    ramp = Image.linear_gradient("L").resize((w, h))
    return Image.composite(Image.new("RGB", (w, h), low), Image.new("RGB", (w, h), top), ramp)


def _sun(pen: ImageDraw.ImageDraw, hour: float, w: int, h: int) -> None:
    x = w * (hour - 5) / 17
    y = h * (0.62 - 0.45 * math.sin((hour - 5) / 17 * math.pi))
    for radius, colour in ((h * 0.11, (255, 226, 178)), (h * 0.07, (255, 244, 222))):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _ridge(pen: ImageDraw.ImageDraw, chance: random.Random, layer: int, hour: float, w: int, h: int) -> None:
    base = h * (0.5 + 0.13 * layer)
    phases = [
        (chance.uniform(0, 6.3), chance.uniform(1, 3 + layer), chance.uniform(8, 30 - 4 * layer)) for _ in range(5)
    ]
    outline = [
        (x, base + sum(size * math.sin(phase + x / w * 6.3 * pace) for phase, pace, size in phases))
        for x in range(0, w + 8, 8)
    ]
    light = 0.45 + 0.4 * max(0.0, math.sin((hour - 5) / 16 * math.pi))
    colour = tuple(int(part * light * (1 - 0.17 * layer)) for part in (126, 148, 138))
    pen.polygon([*outline, (w, h), (0, h)], fill=colour)


def _exif(scene: Scene, seed: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = scene.orientation
    exif[ExifTags.Base.Make] = "Koan"
    exif[ExifTags.Base.Model] = "Drawn on the spot"
    minutes = int(scene.hour % 1 * 60)
    exif[ExifTags.Base.DateTime] = f"2026:0{seed % 9 + 1}:1{seed % 9} {int(scene.hour):02d}:{minutes:02d}:00"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef] = "N" if scene.latitude >= 0 else "S"
    gps[ExifTags.GPS.GPSLatitude] = _degrees(abs(scene.latitude))
    gps[ExifTags.GPS.GPSLongitudeRef] = "E" if scene.longitude >= 0 else "W"
    gps[ExifTags.GPS.GPSLongitude] = _degrees(abs(scene.longitude))
    return exif


def _degrees(value: float) -> tuple[float, float, float]:
    whole, rest = divmod(value, 1)
    minutes, rest = divmod(rest * 60, 1)
    return (whole, minutes, round(rest * 60, 3))
