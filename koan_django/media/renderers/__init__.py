"""The renderers, and which of them takes a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koan_django.media.exceptions import RenderError

from .protocol import Renderer, Rendition

if TYPE_CHECKING:
    from koan_django.media.formats import Format

__all__ = ["Renderer", "Rendition", "register", "renderer_for"]

_renderers: list[Renderer] = []


def register(renderer: Renderer) -> None:
    """Ask ``renderer`` before the ones that are there already."""
    _renderers.insert(0, renderer)


def renderer_for(format: Format) -> Renderer:
    """Return the renderer of sources in ``format``; raises :class:`RenderError`."""
    from .pillow import PillowRenderer

    for renderer in (*_renderers, PillowRenderer()):
        if renderer.renders(format):
            return renderer
    raise RenderError(f"no renderer takes {format.name.upper()}")
