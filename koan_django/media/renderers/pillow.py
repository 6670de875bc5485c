"""The renderer on Pillow.

Colours become sRGB and the profile is dropped, all metadata goes, and transparency stays where the format has it. A
family is resampled from one decoding, at the scale that its largest member needs: a recipe rendered in another family
may differ from it by what resampling from another scale makes of it.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from PIL import Image
from PIL.Image import Resampling

from koan_django.core.telemetry import span
from koan_django.media.formats import FORMATS, Format
from koan_django.media.geometry import Placement, place
from koan_django.media.transforms import Background, Orient, Resize

from .colour import to_srgb
from .decoding import GAP, Frame, animation, decode
from .encoding import WHITE, write, write_animation
from .protocol import Rendition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image as Picture

    from koan_django.media.conf import MediaOptions
    from koan_django.media.inspection import Inspection
    from koan_django.media.recipes import Recipe


class PillowRenderer:
    """Renders every picture format that media reads."""

    revision = "pillow/1"

    def renders(self, format: Format) -> bool:
        return format.name in FORMATS

    def family(
        self, stream: IO[bytes], found: Inspection, recipes: Sequence[Recipe], limits: MediaOptions
    ) -> list[Rendition]:
        moving = [recipe for recipe in recipes if _moves(recipe, found)]
        still = [recipe for recipe in recipes if recipe not in moving]
        made = _animations(stream, found, moving, limits) if moving else []
        if still:
            first = decode(stream, found, max(_scale(recipe, found, limits) for recipe in still))
            made += _stills(first, found, still, limits)
        by_recipe = {rendition.recipe: rendition for rendition in made}
        return [by_recipe[recipe] for recipe in recipes]


def _moves(recipe: Recipe, found: Inspection) -> bool:
    return recipe.encode.animated and found.frames > 1 and _target(recipe, found).animation


def _target(recipe: Recipe, found: Inspection) -> Format:
    return FORMATS[recipe.encode.format] if recipe.encode.format else found.format


def _scale(recipe: Recipe, found: Inspection, limits: MediaOptions) -> float:
    shown = (found.width, found.height)
    size = shown if recipe.find(Orient) or not found.turned else shown[::-1]
    return place(size, recipe.find(Resize), limits.max_edge).scale


def _stills(first: Frame, found: Inspection, recipes: Sequence[Recipe], limits: MediaOptions) -> list[Rendition]:
    upright = first.turned()
    made = []
    for recipe in recipes:
        with span("media.render", recipe=str(recipe), renderer=PillowRenderer.revision) as facts:
            image = _laid_out(upright if recipe.find(Orient) else first, recipe, found, limits)
            target = _target(recipe, found)
            content = write(image, target, recipe.encode, recipe.find(Background))
            facts.update(width=image.width, height=image.height, bytes=len(content))
            made.append(Rendition(recipe, content, target, *image.size))
    return made


def _animations(
    stream: IO[bytes], found: Inspection, recipes: Sequence[Recipe], limits: MediaOptions
) -> list[Rendition]:
    playing = animation(stream, found)
    durations: list[int] = []
    images: list[list[Picture]] = [[] for _ in recipes]
    for frame in playing.frames:
        durations.append(frame.duration)
        upright = frame.turned()
        for recipe, drawn in zip(recipes, images, strict=True):
            drawn.append(_laid_out(upright if recipe.find(Orient) else frame, recipe, found, limits))
    made = []
    for recipe, drawn in zip(recipes, images, strict=True):
        with span("media.render", recipe=str(recipe), renderer=PillowRenderer.revision, frames=len(drawn)):
            target = _target(recipe, found)
            content = write_animation(drawn, durations, playing.loop, target, recipe.encode)
            made.append(Rendition(recipe, content, target, *drawn[0].size))
    return made


def _laid_out(frame: Frame, recipe: Recipe, found: Inspection, limits: MediaOptions) -> Picture:
    placement = place(frame.size, recipe.find(Resize), limits.max_edge)
    scaled = to_srgb(_scaled(frame, placement), frame.profile)
    if placement.canvas == placement.size:
        return scaled
    background = recipe.find(Background)
    colour = background.rgba if background else (0, 0, 0, 0) if _target(recipe, found).alpha else WHITE
    canvas = Image.new("RGBA", placement.canvas, colour)
    left, top = ((outer - inner) // 2 for outer, inner in zip(placement.canvas, placement.size, strict=True))
    canvas.paste(scaled.convert("RGBA"), (left, top))
    return canvas if colour[3] < 255 or scaled.mode == "RGBA" else canvas.convert("RGB")


def _scaled(frame: Frame, placement: Placement) -> Picture:
    """Crop and resample in one step. The pixels may be those of a smaller decoding than ``frame.size`` says."""
    image = frame.image
    across, down = image.width / frame.size[0], image.height / frame.size[1]
    left, top, right, bottom = placement.box
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    if placement.size != image.size or box != (0, 0, *image.size):
        image = image.resize(placement.size, Resampling.LANCZOS, box, reducing_gap=GAP)
    return image.convert("RGBA") if image.mode == "RGBa" else image.copy()
